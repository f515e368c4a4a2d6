-- Why the last trade of one book ended; who else holds a symbol, whatever
-- its margin mode; and the margin mode and liquidation price of positions from the moment when they are booked.

-- Without a margin mode paper is isolated.
update public.positions set margin_mode = 'isolated' where is_paper and margin_mode is null;

-- As before, with the liquidation price.
create or replace function public.open_position(p_fill public.fills, p_details jsonb) returns public.positions
language sql set search_path = '' as $$
  insert into public.positions (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, cost_usd, position_size_usd,
    fees_usd, leverage, margin_mode, liquidation_price, stop_loss_price, take_profit_price, entry_order_id,
    entry_client_order_id, entry_market_time_ms, decision_id, asset_class, created_at
  ) values (
    p_fill.user_id, p_fill.exchange, p_fill.symbol, p_fill.side, p_fill.strategy_id, p_fill.is_paper, p_fill.quantity,
    p_fill.price, p_fill.created_at, trim_scale(p_fill.quantity * p_fill.price), trim_scale(p_fill.quantity * p_fill.price),
    p_fill.fee_usd, p_fill.leverage, p_details ->> 'margin_mode', (p_details ->> 'liquidation_price')::numeric,
    (p_details ->> 'stop_loss_price')::numeric, (p_details ->> 'take_profit_price')::numeric, p_fill.order_id,
    p_fill.client_order_id, p_fill.market_time_ms,
    (select l.id from public.ai_trade_log l where l.id::text = p_fill.request_id and l.ai_strategy_id = p_fill.strategy_id),
    'crypto', p_fill.created_at
  ) returning *
$$;

-- As before; the liquidation price of before is none any more.
create or replace function public.increase_position(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns void
language plpgsql set search_path = '' as $$
declare
  v_cost numeric := trim_scale(
    coalesce(p_position.cost_usd, p_position.entry_price * p_position.quantity) + p_fill.quantity * p_fill.price
  );
  v_quantity numeric := p_position.quantity + p_fill.quantity;
begin
  update public.positions
    set quantity = v_quantity, cost_usd = v_cost, position_size_usd = v_cost,
        entry_price = public.quotient(v_cost, v_quantity),
        fees_usd = fees_usd + p_fill.fee_usd, leverage = p_fill.leverage,
        liquidation_price = (p_details ->> 'liquidation_price')::numeric,
        stop_loss_price = coalesce((p_details ->> 'stop_loss_price')::numeric, stop_loss_price),
        take_profit_price = coalesce((p_details ->> 'take_profit_price')::numeric, take_profit_price)
    where id = p_position.id;
end
$$;

-- The margin mode that an entry of the strategy wants, what its equity on paper has left beside the initial margins of what it holds,
-- and with which modes others hold the symbol live (null: as the account had it).
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
