-- Limits of costs up to the 100 % that their checks allow; why the last trade of one book ended; and who else holds a symbol,
-- whatever its margin mode.

alter table public.ai_strategies
  alter column max_spread_percent type numeric(7, 4), alter column max_slippage_percent type numeric(7, 4);
alter table public.trade_settings_exchange
  alter column max_spread_percent type numeric(7, 4), alter column max_slippage_percent type numeric(7, 4);

-- The margin mode that an entry of the strategy wants, and with which ones others hold the symbol live (null: as the account had it).
create or replace function public.entry_margin(p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'wanted', (select s.margin_mode from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id),
    'others', coalesce((
      select jsonb_agg(jsonb_build_object('margin_mode', p.margin_mode, 'strategy_name', s.name) order by p.entry_time, p.id)
      from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
        and p.strategy_id is distinct from p_strategy_id
    ), '[]')
  )
$$;

-- Why the last trade of one strategy (null: of the person) in a symbol ended, if it ended within p_within_s seconds: in one book, or
-- (null) in both. A paper trade counts where it was liquidated or ended with its symbol.
drop function if exists public.last_exit(uuid, text, text, uuid, double precision);
create or replace function public.last_exit(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid, p_within_s double precision, p_is_paper boolean default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(t.exit_reason) from (
    select distinct on (x.is_paper) x.is_paper, x.exit_reason, x.exit_time from public.trades x
    where x.user_id = p_user_id and lower(x.exchange) = lower(p_exchange) and x.symbol = p_symbol
      and x.strategy_id is not distinct from p_strategy_id and (p_is_paper is null or x.is_paper = p_is_paper)
    order by x.is_paper, x.exit_time desc
  ) t
  where (not t.is_paper or t.exit_reason in ('liquidated', 'delisted'))
    and t.exit_time > clock_timestamp() - make_interval(secs => p_within_s)
  order by t.exit_time desc limit 1
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.entry_margin(uuid, text, text, uuid)', 'public.last_exit(uuid, text, text, uuid, double precision, boolean)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
