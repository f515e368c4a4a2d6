-- An exit may be several orders, all of which the books know; what of a position is too little for any order ends as dust.

alter table public.fills add column if not exists order_ids text[]; -- of the leg's orders where there was more than one
comment on column public.fills.order_ids is 'the venue''s numbers of all orders of the leg; null where there was one, order_id';

-- A dust fill is what is left of a position and cannot be sent: no order made it, and no fee was paid.
alter table public.fills drop constraint if exists fills_kind_check;
alter table public.fills add constraint fills_kind_check check (kind in ('open', 'close', 'rest', 'undo', 'dust'));

-- How much of what is noted as held outside Sparky is dust, of the same sign.
alter table public.outside_holdings add column if not exists dust numeric not null default 0;

-- The venue's numbers of the orders that a fill was made of.
create or replace function public.orders_of(p_fill public.fills) returns text[]
language sql immutable set search_path = '' as $$
  select case when p_fill.order_id is null then '{}' else coalesce(p_fill.order_ids, array[p_fill.order_id]) end
$$;

create or replace function public.insert_fill(p_request_id text, p_user_id uuid, p_fill jsonb) returns public.fills
language sql set search_path = '' as $$
  insert into public.venue_records (user_id, exchange, symbol, last_trade_id, outside_net, since_ms)
    select p_user_id, p_fill ->> 'exchange', p_fill ->> 'symbol', 0,
      public.outside_net(p_user_id, p_fill ->> 'exchange', p_fill ->> 'symbol'),
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

create or replace function public.position_json(p public.positions) returns jsonb
language sql stable set search_path = '' as $$
  select to_jsonb(p) || jsonb_build_object(
    'side', public.position_side(p.side),
    'exchange', lower(p.exchange),
    'entry_time', coalesce(p.entry_time, p.created_at),
    'position_size_usd', coalesce(p.position_size_usd, p.entry_price * p.quantity),
    'exit_order_ids', case when p.is_paper then '[]' else coalesce((
      select jsonb_agg(distinct o.order_id) from public.fills f cross join unnest(public.orders_of(f)) o (order_id)
      where f.position_id = p.id and f.kind <> 'open' and not f.is_paper
    ), '[]') end
  )
$$;

-- As before, with all orders of every fill, and with what each booked order did: `order_positions` ({our order: position}) and
-- `booked_outside` ({order of others: {quantity, value_usd, until_ms}}).
create or replace function public.symbol_facts(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_facts jsonb := public.venue_facts(p_user_id, p_exchange, p_symbol);
  v_record public.venue_records;
  v_parts jsonb;
begin
  select * into v_record from public.venue_records r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol;
  select coalesce(jsonb_agg(distinct o.order_id), '[]') into v_parts -- of orders that are one fill with a known one
    from public.fills f cross join unnest(f.order_ids) o (order_id)
    where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
      and f.order_ids is not null and v_facts -> 'order_ids' ? f.order_id;
  return v_facts || jsonb_build_object(
    'order_ids', (select coalesce(jsonb_agg(distinct n.value), '[]') from jsonb_array_elements((v_facts -> 'order_ids') || v_parts) n),
    'first_ms', least((v_facts ->> 'first_ms')::bigint, v_record.since_ms),
    'unbooked_net', coalesce(v_record.outside_net, public.outside_net(p_user_id, p_exchange, p_symbol)),
    'order_positions', coalesce((
      select jsonb_object_agg(o.order_id, f.position_id) from public.fills f cross join unnest(public.orders_of(f)) o (order_id)
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.position_id is not null and v_facts -> 'order_ids' ? f.order_id
    ), '{}'),
    'booked_outside', coalesce((
      select jsonb_object_agg(b.order_id, to_jsonb(b) - 'order_id') from (
        select f.order_id, sum(f.quantity) as quantity, sum(f.quantity * f.price) as value_usd, max(f.market_time_ms) as until_ms
        from public.fills f
        where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
          and starts_with(f.request_id, 'venue/') and v_facts -> 'outside_order_ids' ? f.order_id
        group by f.order_id
      ) b
    ), '{}')
  );
end
$$;

-- As before; of a fill that several orders made, each is booked with the quantity of all: nothing of any is left.
create or replace function public.booked_orders(p_user_id uuid, p_exchange text, p_symbol text, p_order_ids jsonb) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(b)), '[]') from (
    select o.order_id, sum(f.quantity) as quantity, sum(f.fee_usd) as fee_usd,
      bool_or(starts_with(f.request_id, 'adopted/')) as is_adopted
    from public.fills f cross join unnest(public.orders_of(f)) o (order_id)
    where f.user_id = p_user_id and f.exchange = lower(p_exchange) and f.symbol = p_symbol and not f.is_paper
      and p_order_ids ? o.order_id
    group by o.order_id
  ) b
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
  perform public.note_dust(public.book_close(v_dust, '{"exit_reason": "dust"}'));
end
$$;

-- What is noted of dust changes by p_change, towards 0: others have traded it at the venue. False where less is noted.
create or replace function public.shrink_dust(p_user_id uuid, p_exchange text, p_symbol text, p_change numeric) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_note public.outside_holdings;
begin
  select * into v_note from public.outside_holdings o
    where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol for update;
  if v_note.dust is null or v_note.dust * p_change >= 0 or abs(p_change) > least(abs(v_note.dust), abs(v_note.quantity)) then
    return to_jsonb(false);
  elsif v_note.quantity + p_change = 0 then
    delete from public.outside_holdings o
      where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol;
  else
    update public.outside_holdings o set quantity = o.quantity + p_change, dust = o.dust + p_change
      where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol;
  end if;
  return to_jsonb(true);
end
$$;

-- As before; `dust` of a fill is what is left of its position and cannot be sent: it ends in the same transaction.
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
  if v_fill.kind = 'dust' then
    perform public.note_dust(v_fill);
  elsif (p_fill ->> 'dust')::numeric > 0 then
    perform public.book_dust(v_fill, (p_fill ->> 'dust')::numeric);
  end if;
  return public.booked_fill(v_fill, public.answer_request(v_request.id, v_fill, p_status, p_answer));
end
$$;

-- {pnl: {usd, percent}} of an exit, with the other legs of the same exit, what ended as dust among them.
create or replace function public.told_pnl(p_fill public.fills) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('pnl', jsonb_build_object(
    'usd', public.round_half_even(coalesce(sum(t.pnl_usd), 0), 2),
    'percent', public.round_half_even(coalesce(
      round(sum(t.pnl_usd) * 100 / nullif(sum(t.position_size_usd), 0), 4), 0
    ), 2)
  ))
  from public.fills f join public.trades t on t.id = f.trade_id
  where f.user_id = p_fill.user_id and f.request_id = p_fill.request_id
    and case when p_fill.kind = 'undo' then f.kind = 'undo' else f.kind in ('close', 'rest', 'dust') end
$$;

-- What the venue held of a symbol that it lists no more, it has settled: nothing of it is held outside Sparky either.
create or replace function public.forget_outside(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outside_holdings o
    where o.user_id = p_user_id and o.exchange = p_exchange and o.symbol = p_symbol;
  update public.venue_records r set outside_net = 0, updated_at = clock_timestamp()
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol;
  return to_jsonb(true);
end
$$;

-- Why the last live trade of one strategy (null: of the person) in a symbol ended, if it ended within p_within_s seconds; also
-- of a paper trade that ended with its symbol.
create or replace function public.last_exit(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid, p_within_s double precision
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(t.exit_reason) from (
    select x.exit_reason, x.exit_time from public.trades x
    where x.user_id = p_user_id and lower(x.exchange) = lower(p_exchange) and x.symbol = p_symbol
      and (not x.is_paper or x.exit_reason = 'delisted') and x.strategy_id is not distinct from p_strategy_id
    order by x.exit_time desc limit 1
  ) t where t.exit_time > clock_timestamp() - make_interval(secs => p_within_s)
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.orders_of(public.fills)', 'public.note_dust(public.fills)', 'public.book_dust(public.fills, numeric)',
    'public.symbol_facts(uuid, text, text)', 'public.booked_orders(uuid, text, text, jsonb)',
    'public.book_fill(text, uuid, jsonb, integer, jsonb)', 'public.forget_outside(uuid, text, text)',
    'public.shrink_dust(uuid, text, text, numeric)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
