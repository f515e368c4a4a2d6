-- How a person settles a difference: all that a plan is made of, and how it is booked.

-- The accounts in which a symbol is held, noted as held outside, or differs.
create or replace function public.accounts_in_symbol(p_symbol text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'user_id', a.user_id, 'exchange', a.exchange, 'email', u.email, 'is_open', exists (
      select from public.reconciliation_differences d
      where d.user_id = a.user_id and d.exchange = a.exchange and d.symbol = p_symbol and d.resolved_at is null
    )
  ) order by u.email, a.exchange), '[]')
  from (
    select p.user_id, lower(p.exchange) as exchange from public.positions p where p.symbol = p_symbol and not p.is_paper
    union
    select o.user_id, o.exchange from public.outside_holdings o where o.symbol = p_symbol
    union
    select d.user_id, d.exchange from public.reconciliation_differences d
      where d.symbol = p_symbol and d.resolved_at is null
  ) a left join auth.users u on u.id = a.user_id
$$;

-- All that a plan is made of, in one view.
create or replace function public.symbol_books(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'held', public.live_positions(p_user_id, p_exchange, p_symbol),
    'outside', public.outside_quantity(p_user_id, p_exchange, p_symbol),
    'is_under_way', public.has_unsettled_requests(p_user_id, p_exchange, p_symbol),
    'first_ms', (
      select min(coalesce(p.entry_market_time_ms, (extract(epoch from p.created_at) * 1000)::bigint)) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = lower(p_exchange) and p.symbol = p_symbol and not p.is_paper
    ),
    'difference', (
      select to_jsonb(d) from public.reconciliation_differences d
      where d.user_id = p_user_id and d.exchange = lower(p_exchange) and d.symbol = p_symbol and d.resolved_at is null
    )
  )
$$;

-- Live positions in one symbol of one account, as position_json.
create or replace function public.live_positions(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(
    public.position_json(p) || jsonb_build_object('strategy_name', s.name) order by p.entry_time, p.id
  ), '[]')
  from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
  where p.user_id = p_user_id and lower(p.exchange) = lower(p_exchange) and p.symbol = p_symbol and not p.is_paper
$$;

-- Which of the venue's orders are in the books, with how much of each, for which fees, and whether a person adopted it. Of a
-- fill
-- that several orders made, each is booked with the quantity of all: nothing of any is left.
create or replace function public.booked_orders(p_user_id uuid, p_exchange text, p_symbol text, p_order_ids jsonb) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(b)), '[]') from (
    select o.order_id, sum(f.quantity) as quantity, sum(f.fee_usd) as fee_usd,
      bool_or(starts_with(f.request_id, 'adopted/')) as is_adopted
    from public.fills f cross join unnest(public.order_ids_of_fill(f)) o (order_id)
    where f.user_id = p_user_id and f.exchange = lower(p_exchange) and f.symbol = p_symbol and not f.is_paper
      and p_order_ids ? o.order_id
    group by o.order_id
  ) b
$$;

-- Whether what a signal did in the symbol is not in the books yet.
create or replace function public.has_unsettled_requests(p_user_id uuid, p_exchange text, p_symbol text) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from public.webhook_requests r
    where r.user_id = p_user_id and lower(r.exchange) = lower(p_exchange) and r.symbol = p_symbol
      and r.status in ('submitted', 'filled')
  )
$$;

-- Books the venue's state, in one transaction: p_exits are parts of positions that ended, p_open is what the venue holds beyond
-- (null: nothing). p_seen as in lock_seen_books, p_record as in settle_venue_record. An exit's own exit_reason comes before
-- p_reason.
create or replace function public.adopt_difference(
  p_user_id uuid, p_exchange text, p_symbol text, p_seen jsonb, p_exits jsonb, p_open jsonb, p_reason text default 'adopted',
  p_record jsonb default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_place jsonb := jsonb_build_object('exchange', lower(p_exchange), 'symbol', p_symbol, 'is_paper', false);
  v_name text := 'adopted/' || gen_random_uuid();
  v_line record;
  v_position public.positions;
  v_fill public.fills;
  v_booked jsonb := '[]';
begin
  perform public.lock_seen_books(p_user_id, p_exchange, p_symbol, p_seen, p_open);
  for v_line in
    select e.value as exit, row_number() over (partition by e.value ->> 'position_id' order by e.ordinality) as number
    from jsonb_array_elements(p_exits) with ordinality e order by e.ordinality
  loop
    select * into v_position from public.positions p where p.id = (v_line.exit ->> 'position_id')::uuid for update;
    if v_position.id is null or not p_seen ? v_position.id::text then
      raise exception 'position % is not held any more', v_line.exit ->> 'position_id' using errcode = 'SK409';
    end if;
    v_fill := public.insert_fill(
      concat_ws('/', v_name, v_position.id, case when v_line.number > 1 then v_line.number end), p_user_id,
      v_line.exit || v_place || jsonb_build_object(
        'kind', 'close', 'side', public.position_side(v_position.side), 'leverage', coalesce(v_position.leverage, 1),
        'strategy_id', v_position.strategy_id
      )
    );
    v_fill := public.apply_close(
      v_fill, jsonb_build_object('exit_reason', coalesce(v_line.exit ->> 'exit_reason', p_reason))
    );
    if v_fill.position_id <> v_position.id then
      raise exception 'two positions of one strategy are open in %: close one by hand', p_symbol using errcode = 'SK409';
    end if;
    v_booked := v_booked || jsonb_build_array(public.booked_fill(v_fill, null));
  end loop;
  if jsonb_typeof(p_open) = 'object' then
    v_fill := public.insert_fill(v_name || '/open', p_user_id, '{"leverage": 1}' || p_open || v_place || '{"kind": "open"}');
    v_booked := v_booked || jsonb_build_array(public.booked_fill(public.apply_open(v_fill, '{}'), null));
  end if;
  perform public.settle_venue_record(p_user_id, p_exchange, p_symbol, p_record);
  perform public.resolve_difference(p_user_id, p_exchange, p_symbol);
  return v_booked;
end
$$;

-- As adopt_difference, and in the same transaction what is held outside Sparky becomes p_outside (0: the note ends). It must
-- be p_noted until then.
create or replace function public.adopt_difference_and_holding(
  p_user_id uuid, p_exchange text, p_symbol text, p_seen jsonb, p_exits jsonb, p_open jsonb, p_record jsonb,
  p_noted numeric, p_outside numeric
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  perform public.lock_seen_books(p_user_id, p_exchange, p_symbol, p_seen, p_open);
  if public.outside_quantity(p_user_id, p_exchange, p_symbol) <> p_noted then
    raise exception 'what is held of % outside Sparky has been noted anew: look again', p_symbol using errcode = 'SK409';
  end if;
  perform public.set_outside_holding(p_user_id, p_exchange, p_symbol, p_seen, p_outside, p_record);
  return public.adopt_difference(p_user_id, p_exchange, p_symbol, p_seen, p_exits, p_open, p_record => p_record);
end
$$;

-- Notes p_quantity as a person's own holding outside Sparky; 0 ends the note. Nothing is booked.
create or replace function public.set_outside_holding(
  p_user_id uuid, p_exchange text, p_symbol text, p_seen jsonb, p_quantity numeric, p_record jsonb default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  perform public.lock_seen_books(p_user_id, p_exchange, p_symbol, p_seen);
  if p_quantity = 0 then
    delete from public.outside_holdings o
      where o.user_id = p_user_id and o.exchange = lower(p_exchange) and o.symbol = p_symbol;
  else
    insert into public.outside_holdings as o (user_id, exchange, symbol, quantity)
      values (p_user_id, lower(p_exchange), p_symbol, p_quantity)
      on conflict (user_id, exchange, symbol) do update set quantity = excluded.quantity, noted_at = clock_timestamp();
  end if;
  perform public.settle_venue_record(p_user_id, p_exchange, p_symbol, p_record);
  perform public.resolve_difference(p_user_id, p_exchange, p_symbol);
  return to_jsonb(true);
end
$$;

-- Locks the live books of an account in one symbol, and refuses when they are not what was seen ({position id: quantity}) or
-- when a signal is under way. Adoptions of one symbol, and bookings of book_outside, follow one another.
create or replace function public.lock_seen_books(
  p_user_id uuid, p_exchange text, p_symbol text, p_seen jsonb, p_open jsonb default null
) returns void
language plpgsql set search_path = '' as $$
begin
  perform public.lock_live_books(
    p_user_id, lower(p_exchange), p_symbol,
    case when jsonb_typeof(p_open) = 'object' then array[(p_open ->> 'strategy_id')::uuid] else '{}' end
  );
  if public.has_unsettled_requests(p_user_id, p_exchange, p_symbol) then
    raise exception 'a signal in % is being executed: try again in a minute', p_symbol using errcode = 'SK409';
  end if;
  if exists (
    select from (
      select p.id::text as id, p.quantity from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = lower(p_exchange) and p.symbol = p_symbol and not p.is_paper
    ) b full join jsonb_each_text(p_seen) s on s.key = b.id
    where b.quantity is distinct from s.value::numeric
  ) then
    raise exception 'the books of % have changed since they were looked at: look again', p_symbol using errcode = 'SK409';
  end if;
end
$$;

-- What others did in the record up to its newest trade ({last_trade_id: null where it shows none, at_ms}) is settled by a
-- person: of it only what is noted as held outside Sparky is not in the books. No later reading explains anything by it.
create or replace function public.settle_venue_record(p_user_id uuid, p_exchange text, p_symbol text, p_record jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  v_last_trade_id bigint := (p_record ->> 'last_trade_id')::bigint;
  v_at_ms bigint := coalesce((p_record ->> 'at_ms')::bigint, 0);
begin
  update public.venue_records r
    set outside_net = public.outside_quantity(p_user_id, p_exchange, p_symbol),
        last_trade_id = greatest(r.last_trade_id, v_last_trade_id),
        costs_until_ms = greatest(r.costs_until_ms, v_at_ms), updated_at = clock_timestamp()
    where r.user_id = p_user_id and r.exchange = lower(p_exchange) and r.symbol = p_symbol;
  if not found and v_last_trade_id is not null then
    insert into public.venue_records (user_id, exchange, symbol, last_trade_id, outside_net, costs_until_ms)
      values (
        p_user_id, lower(p_exchange), p_symbol, v_last_trade_id, public.outside_quantity(p_user_id, p_exchange, p_symbol), v_at_ms
      );
  end if;
end
$$;

revoke execute on function
  public.accounts_in_symbol, public.symbol_books, public.live_positions, public.booked_orders, public.has_unsettled_requests,
  public.adopt_difference, public.adopt_difference_and_holding, public.set_outside_holding, public.lock_seen_books,
  public.settle_venue_record
  from public, anon, authenticated;
grant execute on function
  public.accounts_in_symbol, public.symbol_books, public.live_positions, public.booked_orders, public.has_unsettled_requests,
  public.adopt_difference, public.adopt_difference_and_holding, public.set_outside_holding, public.lock_seen_books,
  public.settle_venue_record
  to service_role;
