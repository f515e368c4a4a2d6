-- What is noted as held outside Sparky is listed, and changed together with an adoption; why a trade ended lately is asked.

create or replace function public.outside_notes() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(o) || jsonb_build_object('email', u.email) order by o.noted_at, o.symbol), '[]')
  from public.outside_holdings o left join auth.users u on u.id = o.user_id
$$;

-- As adopt_difference, and in the same transaction what is held outside Sparky becomes p_outside (0: the note ends). It must
-- be p_noted until then.
create or replace function public.adopt_beside_note(
  p_user_id uuid, p_exchange text, p_symbol text, p_seen jsonb, p_exits jsonb, p_open jsonb, p_record jsonb,
  p_noted numeric, p_outside numeric
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  perform public.lock_seen_books(p_user_id, p_exchange, p_symbol, p_seen, p_open);
  if public.outside_net(p_user_id, p_exchange, p_symbol) <> p_noted then
    raise exception 'what is held of % outside Sparky has been noted anew: look again', p_symbol using errcode = 'SK409';
  end if;
  perform public.note_outside(p_user_id, p_exchange, p_symbol, p_seen, p_outside, p_record);
  return public.adopt_difference(p_user_id, p_exchange, p_symbol, p_seen, p_exits, p_open, p_record => p_record);
end
$$;

-- Why the last live trade of one strategy (null: of the person) in a symbol ended, if it ended within p_within_s seconds.
create or replace function public.last_exit(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid, p_within_s double precision
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(t.exit_reason) from (
    select x.exit_reason, x.exit_time from public.trades x
    where x.user_id = p_user_id and lower(x.exchange) = lower(p_exchange) and x.symbol = p_symbol and not x.is_paper
      and x.strategy_id is not distinct from p_strategy_id
    order by x.exit_time desc limit 1
  ) t where t.exit_time > clock_timestamp() - make_interval(secs => p_within_s)
$$;

create or replace function public.email_of(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb((select u.email from auth.users u where u.id = p_user_id))
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.outside_notes()', 'public.email_of(uuid)', 'public.last_exit(uuid, text, text, uuid, double precision)',
    'public.adopt_beside_note(uuid, text, text, jsonb, jsonb, jsonb, jsonb, numeric, numeric)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
