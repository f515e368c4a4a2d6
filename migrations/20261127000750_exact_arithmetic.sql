-- The arithmetic of the books is exact: products have all their digits, and a quotient has 28 significant ones.

-- The number, or null for NaN and infinity.
create or replace function public.figure(p_value numeric) returns numeric
language sql immutable strict set search_path = '' as $$
  select case when p_value > '-Infinity' and p_value < 'Infinity' then p_value end
$$;

-- Division to 28 significant digits, half-even, as `engine.booked.quotient` does it; PostgreSQL's own ends after 16.
create or replace function public.quotient(p_dividend numeric, p_divisor numeric) returns numeric
language plpgsql immutable strict set search_path = '' as $$
declare
  v_value numeric := p_dividend / p_divisor;
  v_places integer := 28;
begin
  if v_value = 0 or public.figure(v_value) is null then
    return v_value;
  end if;
  for v_time in 1..2 loop -- the first value says where the digits begin, and has too few of them
    v_places := 28 - case when abs(v_value) >= 1 then length(trunc(abs(v_value))::text)
      else length(ltrim(split_part(abs(v_value)::text, '.', 2), '0')) - length(split_part(abs(v_value)::text, '.', 2)) end;
    v_value := round(p_dividend, greatest(scale(p_dividend), v_places + 20)) / p_divisor; -- as many places as its dividend
  end loop;
  return trim_scale(public.round_half_even(v_value, v_places));
end
$$;

create or replace function public.open_position(p_fill public.fills, p_details jsonb) returns public.positions
language sql set search_path = '' as $$
  insert into public.positions (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, cost_usd, position_size_usd,
    fees_usd, leverage, stop_loss_price, take_profit_price, entry_order_id, entry_client_order_id, entry_market_time_ms,
    decision_id, asset_class, created_at
  ) values (
    p_fill.user_id, p_fill.exchange, p_fill.symbol, p_fill.side, p_fill.strategy_id, p_fill.is_paper, p_fill.quantity,
    p_fill.price, p_fill.created_at, trim_scale(p_fill.quantity * p_fill.price), trim_scale(p_fill.quantity * p_fill.price),
    p_fill.fee_usd, p_fill.leverage,
    (p_details ->> 'stop_loss_price')::numeric, (p_details ->> 'take_profit_price')::numeric, p_fill.order_id,
    p_fill.client_order_id, p_fill.market_time_ms,
    (select l.id from public.ai_trade_log l where l.id::text = p_fill.request_id and l.ai_strategy_id = p_fill.strategy_id),
    'crypto', p_fill.created_at
  ) returning *
$$;

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
        stop_loss_price = coalesce((p_details ->> 'stop_loss_price')::numeric, stop_loss_price),
        take_profit_price = coalesce((p_details ->> 'take_profit_price')::numeric, take_profit_price)
    where id = p_position.id;
end
$$;

-- P&L = (exit value - entry cost) with the side's sign, less the entry fees of the closed part and the exit fee. The closed part
-- has its share of cost and fees, and the rest is the whole less that: however many parts, their sum is the whole. Percent is of
-- the entry cost, without leverage. An exit is booked also where the row does not say what was paid: then at what it brought.
create or replace function public.insert_trade(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns public.trades
language plpgsql set search_path = '' as $$
declare
  v_is_all boolean := p_fill.quantity = p_position.quantity;
  v_value numeric := trim_scale(p_fill.quantity * p_fill.price);
  v_all_cost numeric := coalesce(public.figure(p_position.cost_usd), public.figure(p_position.entry_price * p_position.quantity));
  v_all_fees numeric := coalesce(public.figure(p_position.fees_usd), 0);
  v_cost numeric := coalesce(
    case when v_is_all then v_all_cost else public.quotient(v_all_cost * p_fill.quantity, p_position.quantity) end, v_value
  );
  v_fees numeric := p_fill.fee_usd
    + case when v_is_all then v_all_fees else public.quotient(v_all_fees * p_fill.quantity, p_position.quantity) end;
  v_pnl numeric := trim_scale((v_value - v_cost) * case p_fill.side when 'LONG' then 1 else -1 end - v_fees);
  v_trade public.trades;
begin
  insert into public.trades (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, exit_price, exit_time,
    position_size_usd, fees_usd, leverage, stop_loss_price, take_profit_price, pnl_usd, pnl_percent, is_winner, exit_reason,
    order_id, client_order_id, request_id, entry_order_id, entry_client_order_id, entry_market_time_ms, exit_market_time_ms,
    decision_id
  ) values (
    p_position.user_id, p_position.exchange, p_position.symbol, p_fill.side, p_position.strategy_id, p_position.is_paper,
    p_fill.quantity, p_position.entry_price, coalesce(p_position.entry_time, p_position.created_at), p_fill.price,
    p_fill.created_at, v_cost, v_fees, p_position.leverage, p_position.stop_loss_price, p_position.take_profit_price, v_pnl,
    round(v_pnl * 100 / nullif(v_cost, 0), 4), v_pnl > 0, p_details ->> 'exit_reason', p_fill.order_id,
    p_fill.client_order_id, p_fill.request_id, p_position.entry_order_id, p_position.entry_client_order_id,
    p_position.entry_market_time_ms, p_fill.market_time_ms, p_position.decision_id
  ) returning * into v_trade;
  return v_trade;
end
$$;

-- As before; and what a decision has earned is rounded once, not part by part.
create or replace function public.book_close(p_fill public.fills, p_details jsonb) returns public.fills
language plpgsql set search_path = '' as $$
declare
  v_position public.positions := public.position_of_fill(p_fill);
  v_trade public.trades;
begin
  if v_position.id is null or public.position_side(v_position.side) <> p_fill.side then
    raise exception 'there is no % position in % to close', p_fill.side, p_fill.symbol using errcode = 'SK409';
  elsif p_fill.quantity > v_position.quantity then
    raise exception 'the position in % is %, smaller than the % closed', p_fill.symbol, v_position.quantity, p_fill.quantity
      using errcode = 'SK409';
  end if;
  v_trade := public.insert_trade(v_position, p_fill, p_details);
  if p_fill.quantity = v_position.quantity then
    delete from public.positions p where p.id = v_position.id;
  else
    update public.positions p
      set quantity = p.quantity - p_fill.quantity,
          cost_usd = coalesce(p.cost_usd, p.entry_price * p.quantity) - v_trade.position_size_usd,
          position_size_usd = coalesce(p.cost_usd, p.entry_price * p.quantity) - v_trade.position_size_usd,
          fees_usd = p.fees_usd - (v_trade.fees_usd - p_fill.fee_usd)
      where p.id = v_position.id;
    perform public.value_positions(array[v_position.id], p_fill.price);
  end if;
  update public.fills f
    set position_id = v_position.id, trade_id = v_trade.id, pnl_usd = v_trade.pnl_usd, pnl_percent = v_trade.pnl_percent
    where f.id = p_fill.id returning * into p_fill;
  update public.ai_trade_log l
    set actual_pnl = (
      select public.round_half_even(sum(public.figure(t.pnl_usd)), 2) from public.trades t where t.decision_id = l.id
    )
    where l.id = v_position.decision_id;
  perform public.update_ledger(p_fill.strategy_id, p_fill.is_paper, v_trade.pnl_usd);
  return p_fill;
end
$$;

create or replace function public.value_positions(p_ids uuid[], p_price numeric) returns void
language sql set search_path = '' as $$
  update public.positions p
    set current_price = p_price, last_price_update = clock_timestamp(), unrealized_pnl_usd = trim_scale(u.pnl),
        unrealized_pnl_percent = round(u.pnl * 100 / nullif(u.cost, 0), 4)
    from (
      select q.id, q.cost,
        (q.quantity * p_price - q.cost) * case q.side when 'LONG' then 1 else -1 end - q.fees_usd as pnl
      from (
        select o.id, o.quantity, o.fees_usd, public.position_side(o.side) as side,
          coalesce(o.cost_usd, o.entry_price * o.quantity) as cost
        from public.positions o where o.id = any (p_ids)
      ) q
    ) u
    where p.id = u.id
$$;

-- Adds realised P&L (already in trades) and lifts the peak to today's equity, if that is known.
create or replace function public.update_ledger(p_strategy_id uuid, p_is_paper boolean, p_realized numeric) returns void
language plpgsql set search_path = '' as $$
begin
  if not exists (select from public.ai_strategies s where s.id = p_strategy_id) then
    return; -- a person's own signal belongs to no strategy's equity
  end if;
  insert into public.strategy_ledger (strategy_id, is_paper, realized_pnl_usd)
    select p_strategy_id, p_is_paper, coalesce(sum(public.figure(t.pnl_usd)), 0) - p_realized
    from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper
    having not exists (select from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper)
    on conflict do nothing;
  -- A statement sees what was there when it began, however long it waits for a row. Waiting first, the next one never adds
  -- the profit that a booking has just realised to the same profit unrealised.
  perform from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper for update;
  update public.strategy_ledger l
    set realized_pnl_usd = l.realized_pnl_usd + p_realized, updated_at = clock_timestamp(),
        peak_pnl_usd = greatest(l.peak_pnl_usd, public.figure(l.realized_pnl_usd + p_realized + ( -- null counts for nothing
          select coalesce(sum(coalesce(p.unrealized_pnl_usd, -p.fees_usd)), 0) from public.positions p
          where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper
        )))
    where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
end
$$;

-- A point for every book whose equity is known and has moved since its last one, at most one per interval; how many.
create or replace function public.record_equity(p_interval_s double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  insert into public.equity_points (
    strategy_id, is_paper, equity_usd, realized_pnl_usd, unrealized_pnl_usd, drawdown_percent
  )
  select s.id, l.is_paper, f.equity_usd, f.realized_pnl_usd, f.unrealized_pnl_usd, coalesce(f.drawdown_percent, 100)
  from public.strategy_ledger l
  join public.ai_strategies s on s.id = l.strategy_id
  cross join lateral public.strategy_figures(s.id, l.is_paper, s.capital_usd) f
  left join lateral (
    select e.at, e.equity_usd from public.equity_points e
    where e.strategy_id = l.strategy_id and e.is_paper = l.is_paper order by e.at desc limit 1
  ) last on true
  where public.figure(f.equity_usd) is not null and public.figure(f.drawdown_percent) is not distinct from f.drawdown_percent
    and (last.at is null
      or (last.at <= clock_timestamp() - make_interval(secs => p_interval_s) and last.equity_usd <> f.equity_usd))
  on conflict do nothing;
  get diagnostics v_count = row_count;
  return to_jsonb(v_count);
end
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array['public.figure(numeric)', 'public.quotient(numeric, numeric)']::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
