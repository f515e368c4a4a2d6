-- From fill to books, in one transaction: fill, position, trade, ledger, decision, request.
-- Products are rounded half-even to 8 places; the cost of a position is kept, so an average price loses nothing.

create or replace function public.book_fill(
  p_request_id text, p_user_id uuid, p_fill jsonb, p_status integer default null, p_answer jsonb default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_request public.webhook_requests;
  v_fill public.fills;
begin
  perform public.lock_book(p_user_id, (p_fill ->> 'strategy_id')::uuid, (p_fill ->> 'is_paper')::boolean);
  select * into v_request from public.webhook_requests r
    where r.user_id = p_user_id and r.request_id = p_request_id for update;
  if not found then
    raise exception 'request % was never begun', p_request_id using errcode = 'SK404';
  end if;
  select * into v_fill from public.fills f
    where f.user_id = p_user_id and f.request_id = p_request_id and f.kind = p_fill ->> 'kind';
  if found then -- booked before: say the same again
    return public.booked_fill(v_fill, coalesce(v_request.answer, p_answer));
  end if;
  v_fill := public.insert_fill(p_request_id, p_user_id, p_fill);
  if v_fill.kind = 'open' then
    v_fill := public.book_open(v_fill, p_fill);
  else
    v_fill := public.book_close(v_fill, p_fill);
  end if;
  return public.booked_fill(v_fill, public.answer_request(v_request.id, v_fill, p_status, p_answer));
end
$$;

-- Fills of one book (a strategy's, or a person's without strategy) are booked one after the other.
create or replace function public.lock_book(p_user_id uuid, p_strategy_id uuid, p_is_paper boolean) returns void
language sql set search_path = '' as $$
  select pg_advisory_xact_lock(hashtextextended(concat_ws('/', 'book', p_user_id, p_strategy_id, p_is_paper), 0))
$$;

create or replace function public.insert_fill(p_request_id text, p_user_id uuid, p_fill jsonb) returns public.fills
language sql set search_path = '' as $$
  insert into public.fills (
    user_id, request_id, kind, strategy_id, exchange, symbol, side, quantity, price, fee_usd, leverage, is_paper, order_id,
    client_order_id, market_time_ms
  ) values (
    p_user_id, p_request_id, p_fill ->> 'kind', (p_fill ->> 'strategy_id')::uuid, p_fill ->> 'exchange',
    p_fill ->> 'symbol', p_fill ->> 'side', (p_fill ->> 'quantity')::numeric, (p_fill ->> 'price')::numeric,
    (p_fill ->> 'fee_usd')::numeric, (p_fill ->> 'leverage')::integer, (p_fill ->> 'is_paper')::boolean,
    p_fill ->> 'order_id', p_fill ->> 'client_order_id', (p_fill ->> 'market_time_ms')::bigint
  ) returning *
$$;

create or replace function public.position_of_fill(p_fill public.fills) returns public.positions
language plpgsql set search_path = '' as $$
declare
  v_position public.positions;
begin
  select * into v_position from public.positions p
    where p.user_id = p_fill.user_id and lower(p.exchange) = p_fill.exchange and p.symbol = p_fill.symbol
      and p.strategy_id is not distinct from p_fill.strategy_id and p.is_paper = p_fill.is_paper
    for update;
  return v_position;
end
$$;

create or replace function public.book_open(p_fill public.fills, p_details jsonb) returns public.fills
language plpgsql set search_path = '' as $$
declare
  v_position public.positions := public.position_of_fill(p_fill);
begin
  if v_position.id is null then
    v_position := public.open_position(p_fill, p_details);
  elsif public.position_side(v_position.side) <> p_fill.side then
    raise exception 'the position in % is %: close it before opening %', p_fill.symbol, v_position.side, p_fill.side
      using errcode = 'SK409';
  else
    perform public.increase_position(v_position, p_fill, p_details);
  end if;
  update public.fills f set position_id = v_position.id where f.id = p_fill.id returning * into p_fill;
  perform public.value_positions(array[v_position.id], p_fill.price);
  perform public.update_ledger(p_fill.strategy_id, p_fill.is_paper, 0);
  return p_fill;
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
    p_fill.price, p_fill.created_at, public.round_half_even(p_fill.quantity * p_fill.price, 8),
    public.round_half_even(p_fill.quantity * p_fill.price, 8), p_fill.fee_usd, p_fill.leverage,
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
  v_cost numeric := coalesce(p_position.cost_usd, public.round_half_even(p_position.entry_price * p_position.quantity, 8))
    + public.round_half_even(p_fill.quantity * p_fill.price, 8);
  v_quantity numeric := p_position.quantity + p_fill.quantity;
begin
  update public.positions
    set quantity = v_quantity, cost_usd = v_cost, position_size_usd = v_cost,
        entry_price = public.round_half_even(v_cost / v_quantity, 8),
        fees_usd = fees_usd + p_fill.fee_usd, leverage = p_fill.leverage,
        stop_loss_price = coalesce((p_details ->> 'stop_loss_price')::numeric, stop_loss_price),
        take_profit_price = coalesce((p_details ->> 'take_profit_price')::numeric, take_profit_price)
    where id = p_position.id;
end
$$;

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
  update public.ai_trade_log l set actual_pnl = coalesce(l.actual_pnl, 0) + public.round_half_even(v_trade.pnl_usd, 2)
    where l.id = v_position.decision_id;
  perform public.update_ledger(p_fill.strategy_id, p_fill.is_paper, v_trade.pnl_usd);
  return p_fill;
end
$$;

-- P&L = (exit value - entry cost) with the side's sign, less the entry fees of the closed part and the exit fee. Percent is of
-- the entry cost, without leverage.
create or replace function public.insert_trade(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns public.trades
language plpgsql set search_path = '' as $$
declare
  v_is_all boolean := p_fill.quantity = p_position.quantity;
  v_all_cost numeric := coalesce(p_position.cost_usd, p_position.entry_price * p_position.quantity);
  v_cost numeric := public.round_half_even(
    case when v_is_all then v_all_cost else v_all_cost * p_fill.quantity / p_position.quantity end, 8
  );
  v_fees numeric := p_fill.fee_usd
    + public.round_half_even(
      case when v_is_all then p_position.fees_usd else p_position.fees_usd * p_fill.quantity / p_position.quantity end, 8
    );
  v_value numeric := public.round_half_even(p_fill.quantity * p_fill.price, 8);
  v_pnl numeric := (v_value - v_cost) * case p_fill.side when 'LONG' then 1 else -1 end - v_fees;
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

-- The stored answer is what the sender gets, now and on every repetition; a close adds its P&L to it. Without an answer the
-- request goes on: a reversal is a close and an open.
create or replace function public.answer_request(
  p_id uuid, p_fill public.fills, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_answer jsonb := nullif(p_answer, 'null'::jsonb);
begin
  if v_answer is not null and p_fill.trade_id is not null then
    v_answer := v_answer || jsonb_build_object('pnl', jsonb_build_object(
      'usd', public.round_half_even(p_fill.pnl_usd, 2), 'percent', public.round_half_even(p_fill.pnl_percent, 2)
    ));
  end if;
  update public.webhook_requests r
    set status = case when v_answer is null then 'filled' else 'booked' end, answer = v_answer, answer_status = p_status,
        error_message = null, processed_at = clock_timestamp()
    where r.id = p_id;
  return v_answer;
end
$$;

create or replace function public.booked_fill(p_fill public.fills, p_answer jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'position_id', p_fill.position_id, 'trade_id', p_fill.trade_id, 'pnl_usd', p_fill.pnl_usd,
    'pnl_percent', p_fill.pnl_percent, 'answer', p_answer
  )
$$;

-- Ends a booked entry: its protective orders are at the venue. The answer is given again on every repetition.
create or replace function public.book_protection(
  p_request_id text, p_user_id uuid, p_position_id uuid, p_protection jsonb, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.positions p
    set stop_loss_price = coalesce((p_protection ->> 'stop_loss_price')::numeric, p.stop_loss_price),
        take_profit_price = coalesce((p_protection ->> 'take_profit_price')::numeric, p.take_profit_price),
        stop_loss_order_id = p_protection ->> 'stop_loss_order_id',
        take_profit_order_id = p_protection ->> 'take_profit_order_id',
        stop_loss_client_order_id = p_protection ->> 'stop_loss_client_order_id',
        take_profit_client_order_id = p_protection ->> 'take_profit_client_order_id'
    where p.id = p_position_id and p.user_id = p_user_id;
  if p_answer is not null and p_answer <> 'null'::jsonb then
    update public.webhook_requests r
      set status = 'booked', answer = p_answer, answer_status = p_status, error_message = null, processed_at = clock_timestamp()
      where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  end if;
  return to_jsonb(true);
end
$$;
