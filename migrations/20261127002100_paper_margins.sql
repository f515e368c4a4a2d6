-- The margins of paper positions: what is free for another entry, and until when the past may be looked at again.

create index if not exists fills_paper_strategies_idx on public.fills (strategy_id) where is_paper;

-- As before, with what the strategy's equity on paper has left beside the initial margins of what it holds.
create or replace function public.entry_margin(p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'wanted', (select s.margin_mode from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id),
    'paper_free_usd', (
      select f.equity_usd - coalesce((
        select sum(public.quotient(p.position_size_usd, p.leverage)) from public.positions p
        where p.strategy_id = s.id and p.is_paper
      ), 0)
      from public.ai_strategies s cross join lateral public.strategy_figures(s.id, true, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    ),
    'others', coalesce((
      select jsonb_agg(jsonb_build_object('margin_mode', p.margin_mode, 'strategy_name', s.name))
      from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
        and p.margin_mode is not null and p.strategy_id is distinct from p_strategy_id
    ), '[]')
  )
$$;

-- As before, with when the position last changed, or where margin is cross anything of its strategy (the venue's time): prices of
-- before then are not those of what is held now. Of one person, or with null of all.
create or replace function public.paper_margins_of(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'position_id', p.id,
    'entered_ms', coalesce((
      select max(f.market_time_ms) from public.fills f where f.position_id = p.id and f.is_paper and f.kind = 'open'
    ), p.entry_market_time_ms),
    'changed_ms', greatest(
      (select max(f.market_time_ms) from public.fills f where f.position_id = p.id and f.is_paper),
      case when p.margin_mode = 'cross' then
        (select max(f.market_time_ms) from public.fills f where f.strategy_id = p.strategy_id and f.is_paper)
      end
    ),
    'wallet_usd', w.wallet_usd
  )), '[]')
  from public.positions p
  left join lateral (
    select s.capital_usd + public.figure(f.realized_pnl_usd) as wallet_usd
    from public.ai_strategies s cross join lateral public.strategy_figures(s.id, true, s.capital_usd) f
    where s.id = p.strategy_id
  ) w on true
  where p.is_paper and (p_user_id is null or p.user_id = p_user_id)
$$;

create or replace function public.paper_margins() returns jsonb
language sql stable security definer set search_path = '' as $$
  select public.paper_margins_of(null)
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.entry_margin(uuid, text, text, uuid)', 'public.paper_margins_of(uuid)', 'public.paper_margins()'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
