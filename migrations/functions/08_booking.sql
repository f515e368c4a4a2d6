-- From fill to books, in one transaction: fill, position, trade, ledger, decision, request. Amounts are exact; only what a
-- division makes is rounded (quotient).

-- Books one fill; one that is booked already changes nothing and returns the same. `dust` of a fill is what is left of its
-- position and cannot be sent: it ends in the same transaction.
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
    v_fill := public.apply_open(v_fill, p_fill);
  else
    v_fill := public.apply_close(v_fill, p_fill);
  end if;
  if v_fill.kind = 'dust' then
    perform public.note_dust(v_fill);
  elsif (p_fill ->> 'dust')::numeric > 0 then
    perform public.book_dust(v_fill, (p_fill ->> 'dust')::numeric);
  end if;
  return public.booked_fill(v_fill, public.store_response(v_request.id, v_fill, p_status, p_answer));
end
$$;

-- Fills of one book (a strategy's, or a person's without strategy) are booked one after the other.
create or replace function public.lock_book(p_user_id uuid, p_strategy_id uuid, p_is_paper boolean) returns void
language sql set search_path = '' as $$
  select pg_advisory_xact_lock(hashtextextended(concat_ws('/', 'book', p_user_id, p_strategy_id, p_is_paper), 0))
$$;

-- The first live entry begins the record of its symbol, which is not read yet (up to trade 0).
create or replace function public.insert_fill(p_request_id text, p_user_id uuid, p_fill jsonb) returns public.fills
language sql set search_path = '' as $$
  insert into public.venue_records (user_id, exchange, symbol, last_trade_id, outside_net, since_ms)
    select p_user_id, p_fill ->> 'exchange', p_fill ->> 'symbol', 0,
      public.outside_quantity(p_user_id, p_fill ->> 'exchange', p_fill ->> 'symbol'),
      coalesce((p_fill ->> 'market_time_ms')::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint)
    where p_fill ->> 'kind' = 'open' and not (p_fill ->> 'is_paper')::boolean
    on conflict (user_id, exchange, symbol) do nothing;
  insert into public.fills (
    user_id, request_id, kind, strategy_id, exchange, symbol, side, quantity, price, fee_usd, leverage, is_paper, order_id,
    client_order_id, market_time_ms, order_ids
  ) values (
    p_user_id, p_request_id, p_fill ->> 'kind', (p_fill ->> 'strategy_id')::uuid, p_fill ->> 'exchange',
    p_fill ->> 'symbol', p_fill ->> 'side', (p_fill ->> 'quantity')::numeric, (p_fill ->> 'price')::numeric,
    (p_fill ->> 'fee_usd')::numeric, (p_fill ->> 'leverage')::integer, (p_fill ->> 'is_paper')::boolean,
    p_fill ->> 'order_id', p_fill ->> 'client_order_id', (p_fill ->> 'market_time_ms')::bigint,
    case when jsonb_typeof(p_fill -> 'order_ids') = 'array' and p_fill -> 'order_ids' <> '[]' then
      array(select jsonb_array_elements_text(p_fill -> 'order_ids'))
    end
  ) returning *
$$;

-- The venue's numbers of the orders that a fill was made of.
create or replace function public.order_ids_of_fill(p_fill public.fills) returns text[]
language sql immutable set search_path = '' as $$
  select case when p_fill.order_id is null then '{}' else coalesce(p_fill.order_ids, array[p_fill.order_id]) end
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

create or replace function public.apply_open(p_fill public.fills, p_details jsonb) returns public.fills
language plpgsql set search_path = '' as $$
declare
  v_position public.positions := public.position_of_fill(p_fill);
begin
  if v_position.id is null then
    v_position := public.insert_position(p_fill, p_details);
  elsif public.position_side(v_position.side) <> p_fill.side then
    raise exception 'the position in % is %: close it before opening %', p_fill.symbol, v_position.side, p_fill.side
      using errcode = 'SK409';
  else
    perform public.increase_position(v_position, p_fill, p_details);
  end if;
  update public.fills f set position_id = v_position.id where f.id = p_fill.id returning * into p_fill;
  perform public.mark_positions_by_id(array[v_position.id], p_fill.price);
  perform public.update_ledger(p_fill.strategy_id, p_fill.is_paper, 0);
  return p_fill;
end
$$;

-- A new position, with the margin mode and the liquidation price of its entry.
create or replace function public.insert_position(p_fill public.fills, p_details jsonb) returns public.positions
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

-- Adds an entry to a position. Where the entry tells no liquidation price there is none any more.
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

-- The rest of a position keeps the whole cost, fees and funding less what the closed part took; what a decision has earned is
-- rounded once, not part by part.
create or replace function public.apply_close(p_fill public.fills, p_details jsonb) returns public.fills
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
          fees_usd = p.fees_usd - (v_trade.fees_usd - p_fill.fee_usd),
          funding_usd = coalesce(public.finite_or_null(p.funding_usd), 0) - v_trade.funding_usd
      where p.id = v_position.id;
    perform public.mark_positions_by_id(array[v_position.id], p_fill.price);
  end if;
  update public.fills f
    set position_id = v_position.id, trade_id = v_trade.id, pnl_usd = v_trade.pnl_usd, pnl_percent = v_trade.pnl_percent
    where f.id = p_fill.id returning * into p_fill;
  update public.ai_trade_log l
    set actual_pnl = (
      select public.round_half_even(sum(public.finite_or_null(t.pnl_usd)), 2) from public.trades t where t.decision_id = l.id
    )
    where l.id = v_position.decision_id;
  perform public.update_ledger(p_fill.strategy_id, p_fill.is_paper, v_trade.pnl_usd);
  return p_fill;
end
$$;

-- P&L = (exit value - entry cost) with the side's sign, less the entry fees of the closed part and the exit fee, plus its
-- funding.
-- The closed part has its share of cost, fees and funding, and the rest is the whole less that: however many parts, their sum
-- is
-- the whole. Percent is of the entry cost, without leverage. An exit is booked also where the row does not say what was paid:
-- then at what it brought.
create or replace function public.insert_trade(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns public.trades
language plpgsql set search_path = '' as $$
declare
  v_is_all boolean := p_fill.quantity = p_position.quantity;
  v_value numeric := trim_scale(p_fill.quantity * p_fill.price);
  v_all_cost numeric := coalesce(
    public.finite_or_null(p_position.cost_usd), public.finite_or_null(p_position.entry_price * p_position.quantity)
  );
  v_all_fees numeric := coalesce(public.finite_or_null(p_position.fees_usd), 0);
  v_all_funding numeric := coalesce(public.finite_or_null(p_position.funding_usd), 0);
  v_cost numeric := coalesce(
    case when v_is_all then v_all_cost else public.quotient(v_all_cost * p_fill.quantity, p_position.quantity) end, v_value
  );
  v_fees numeric := p_fill.fee_usd
    + case when v_is_all then v_all_fees else public.quotient(v_all_fees * p_fill.quantity, p_position.quantity) end;
  v_funding numeric :=
    case when v_is_all then v_all_funding else public.quotient(v_all_funding * p_fill.quantity, p_position.quantity) end;
  v_pnl numeric := trim_scale((v_value - v_cost) * case p_fill.side when 'LONG' then 1 else -1 end - v_fees + v_funding);
  v_trade public.trades;
begin
  insert into public.trades (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, exit_price, exit_time,
    position_size_usd, fees_usd, funding_usd, leverage, stop_loss_price, take_profit_price, pnl_usd, pnl_percent, is_winner,
    exit_reason, order_id, client_order_id, request_id, entry_order_id, entry_client_order_id, entry_market_time_ms,
    exit_market_time_ms, decision_id
  ) values (
    p_position.user_id, p_position.exchange, p_position.symbol, p_fill.side, p_position.strategy_id, p_position.is_paper,
    p_fill.quantity, p_position.entry_price, coalesce(p_position.entry_time, p_position.created_at), p_fill.price,
    p_fill.created_at, v_cost, v_fees, v_funding, p_position.leverage, p_position.stop_loss_price, p_position.take_profit_price,
    v_pnl, round(v_pnl * 100 / nullif(v_cost, 0), 4), v_pnl > 0, p_details ->> 'exit_reason', p_fill.order_id,
    p_fill.client_order_id, p_fill.request_id, p_position.entry_order_id, p_position.entry_client_order_id,
    p_position.entry_market_time_ms, p_fill.market_time_ms, p_position.decision_id
  ) returning * into v_trade;
  return v_trade;
end
$$;

-- What is left of a position after `p_fill`, if that is no more than `p_most`: an exit at the same price, without a fee.
create or replace function public.book_dust(p_fill public.fills, p_most numeric) returns void
language plpgsql set search_path = '' as $$
declare
  v_position public.positions := public.position_of_fill(p_fill);
  v_dust public.fills;
begin
  if v_position.id is distinct from p_fill.position_id or v_position.id is null or v_position.quantity > p_most then
    return;
  end if;
  v_dust := public.insert_fill(p_fill.request_id, p_fill.user_id, to_jsonb(p_fill) || jsonb_build_object(
    'kind', 'dust', 'quantity', v_position.quantity, 'fee_usd', 0, 'order_id', null, 'order_ids', null, 'client_order_id', null
  ));
  perform public.note_dust(public.apply_close(v_dust, '{"exit_reason": "dust"}'));
end
$$;

-- What the venue holds of a dust fill is the person's own from now on, beside what was noted before; the record knows it too.
create or replace function public.note_dust(p_fill public.fills) returns void
language plpgsql set search_path = '' as $$
declare
  v_net numeric := p_fill.quantity * case p_fill.side when 'LONG' then 1 else -1 end;
begin
  if p_fill.is_paper then
    return;
  end if;
  delete from public.outside_holdings o
    where o.user_id = p_fill.user_id and o.exchange = p_fill.exchange and o.symbol = p_fill.symbol and o.quantity = -v_net;
  if not found then
    insert into public.outside_holdings as o (user_id, exchange, symbol, quantity, dust)
      values (p_fill.user_id, p_fill.exchange, p_fill.symbol, v_net, v_net)
      on conflict (user_id, exchange, symbol) do update
        set quantity = o.quantity + excluded.quantity, dust = o.dust + excluded.dust, noted_at = clock_timestamp();
  end if;
  update public.venue_records r set outside_net = r.outside_net + v_net, updated_at = clock_timestamp()
    where r.user_id = p_fill.user_id and r.exchange = p_fill.exchange and r.symbol = p_fill.symbol;
end
$$;

revoke execute on function
  public.book_fill, public.lock_book, public.insert_fill, public.order_ids_of_fill, public.position_of_fill, public.apply_open,
  public.insert_position, public.increase_position, public.apply_close, public.insert_trade, public.book_dust, public.note_dust
  from public, anon, authenticated;
grant execute on function
  public.book_fill, public.lock_book, public.insert_fill, public.order_ids_of_fill, public.position_of_fill, public.apply_open,
  public.insert_position, public.increase_position, public.apply_close, public.insert_trade, public.book_dust, public.note_dust
  to service_role;
