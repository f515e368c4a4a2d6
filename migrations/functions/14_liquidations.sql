-- What liquidations cost beyond the commissions of their trades: read as income, added to the exits that are booked.

-- Where liquidations were booked within so many seconds: their income may be shown later than their trades.
create or replace function public.recent_liquidations(p_within_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(l)), '[]') from (
    select f.user_id, f.exchange, f.symbol, min(f.market_time_ms) as first_ms, max(f.id) as last_fill_id
    from public.fills f join public.trades t on t.id = f.trade_id
    where f.created_at > clock_timestamp() - make_interval(secs => p_within_s) and not f.is_paper and f.kind = 'close'
      and starts_with(f.request_id, 'venue/') and t.exit_reason = 'liquidated'
    group by f.user_id, f.exchange, f.symbol
  ) l
$$;

-- The exits by liquidation of a symbol since `p_first_ms` of the venue's time, oldest first, and the income that is booked.
create or replace function public.liquidation_exits(
  p_user_id uuid, p_exchange text, p_symbol text, p_first_ms bigint
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'exits', coalesce((
      select jsonb_agg(jsonb_build_object(
        'fill_id', f.id, 'order_id', f.order_id, 'quantity', f.quantity, 'at_ms', f.market_time_ms
      ) order by f.market_time_ms, f.id)
      from public.fills f join public.trades t on t.id = f.trade_id
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper and f.kind = 'close'
        and starts_with(f.request_id, 'venue/') and t.exit_reason = 'liquidated' and f.market_time_ms >= p_first_ms
    ), '[]'),
    'cost_ids', coalesce((
      select jsonb_agg(c.income_id) from public.liquidation_costs c
      where c.user_id = p_user_id and c.exchange = p_exchange and c.symbol = p_symbol
    ), '[]'),
    'costs_until_ms', coalesce((
      select r.costs_until_ms from public.venue_records r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
    ), 0)
  )
$$;

-- Adds to exits that are booked what the income `p_income_id` says that their liquidation cost: `p_shares` is {fill id: USD}. False,
-- and nothing is done, when that income is booked.
create or replace function public.book_liquidation_cost(
  p_user_id uuid, p_exchange text, p_symbol text, p_income_id text, p_shares jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_strategies uuid[];
  v_row record;
  v_trade public.trades;
begin
  select coalesce(array_agg(distinct f.strategy_id), '{}') into v_strategies from public.fills f
    where f.user_id = p_user_id and f.id in (select k.id::bigint from jsonb_object_keys(p_shares) k (id));
  perform public.lock_live_books(p_user_id, p_exchange, p_symbol, v_strategies);
  insert into public.liquidation_costs (user_id, exchange, symbol, income_id)
    values (p_user_id, p_exchange, p_symbol, p_income_id) on conflict do nothing;
  if not found then
    return to_jsonb(false);
  end if;
  for v_row in
    select f.id, f.trade_id, f.strategy_id, s.value::numeric as usd
    from jsonb_each_text(p_shares) s join public.fills f on f.id = s.key::bigint and f.user_id = p_user_id
    order by f.strategy_id, f.id
  loop
    update public.trades t
      set fees_usd = t.fees_usd + v_row.usd, pnl_usd = t.pnl_usd - v_row.usd,
          pnl_percent = round((t.pnl_usd - v_row.usd) * 100 / nullif(t.position_size_usd, 0), 4),
          is_winner = t.pnl_usd - v_row.usd > 0
      where t.id = v_row.trade_id returning * into v_trade;
    update public.fills f
      set fee_usd = f.fee_usd + v_row.usd, pnl_usd = v_trade.pnl_usd, pnl_percent = v_trade.pnl_percent
      where f.id = v_row.id;
    update public.ai_trade_log l
      set actual_pnl = (
        select public.round_half_even(sum(public.finite_or_null(t.pnl_usd)), 2) from public.trades t where t.decision_id = l.id
      )
      where l.id = v_trade.decision_id;
    perform public.update_ledger(v_row.strategy_id, false, -v_row.usd);
  end loop;
  return to_jsonb(true);
end
$$;

revoke execute on function
  public.recent_liquidations, public.liquidation_exits, public.book_liquidation_cost
  from public, anon, authenticated;
grant execute on function
  public.recent_liquidations, public.liquidation_exits, public.book_liquidation_cost
  to service_role;
