-- What people may not write holds even where somebody has granted them whole tables, as recipes for Supabase often do: a second
-- lock behind the column grants.
create or replace function public.guard_strategy() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_forged text;
begin
  if current_user not in ('anon', 'authenticated') then
    return new;
  end if;
  select string_agg(n.key, ', ' order by n.key) into v_forged
  from jsonb_each(to_jsonb(new)) n
  where n.key = any (array[
      'id', 'user_id', 'performance_fee_percent', 'is_prop_allocation', 'paused_reason', 'paused_at', 'paused_traceback',
      'running_since', 'created_at', 'updated_at'
    ])
    and n.value is distinct from case
      when tg_op = 'UPDATE' then to_jsonb(old) -> n.key
      when n.key = 'performance_fee_percent' then to_jsonb(20.00)
      when n.key = 'is_prop_allocation' then to_jsonb(false)
      when n.key in ('paused_reason', 'paused_at', 'paused_traceback', 'running_since') then 'null'::jsonb
      else n.value -- whose row it is, the policy says
    end;
  if v_forged is not null then
    raise exception 'permission denied for column % of ai_strategies', v_forged using errcode = '42501';
  end if;
  return new;
end
$$;

-- By its name it runs before strategy_row_changed, which sets some of these columns itself.
drop trigger if exists guard_strategy on public.ai_strategies;
create trigger guard_strategy before insert or update on public.ai_strategies
  for each row execute function public.guard_strategy();

revoke execute on function public.guard_strategy() from public, anon, authenticated;
grant execute on function public.guard_strategy() to service_role;
