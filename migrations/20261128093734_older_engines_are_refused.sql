-- Older engines are refused: functions as migrations/functions/ has them.

set check_function_bodies = off; -- a function may call one that is created further down

-- How an engine of an older version calls: it was not restarted after the migration, and what it would record is no signal any
-- more. SK426 is none of the states that an engine takes for final: its strategies go on as soon as it is restarted.
create or replace function public.record_decision(
  p_decision_id uuid, p_strategy_id uuid, p_record jsonb, p_signal jsonb default null, p_engine uuid default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  raise exception 'this engine is of an older version than the database: restart it with the present one'
    using errcode = 'SK426';
end
$$;

reset check_function_bodies;

notify pgrst, 'reload schema';
