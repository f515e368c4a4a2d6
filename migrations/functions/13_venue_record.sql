-- What happened at a venue without us: what is needed to read it in the account's own record, and how it is booked.

-- Every account that can trade live; `has_record` where something was held live since it was last seen empty.
create or replace function public.live_accounts() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'user_id', a.user_id, 'exchange', a.exchange, 'has_record', exists (
      select from public.venue_records r where r.user_id = a.user_id and r.exchange = a.exchange
    )
  )), '[]')
  from (
    select c.user_id, lower(c.exchange) as exchange from public.bot_credentials c
      where c.exchange <> 'webhook' and (c.api_key is not null or c.extra_metadata ->> 'private_key' is not null)
    union
    select p.user_id, lower(p.exchange) from public.positions p where not p.is_paper
  ) a
$$;

-- Symbols of live trades that ended within so many seconds, with the newest entries' requests (at most 2000 of each symbol).
create or replace function public.ended_live_symbols(p_within_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'user_id', e.user_id, 'exchange', e.exchange, 'symbol', e.symbol, 'last_exit', e.last_exit,
    'request_ids', coalesce((
      select jsonb_agg(r.request_id) from (
        select w.request_id from public.webhook_requests w
        where w.user_id = e.user_id and w.exchange = e.exchange and w.symbol = e.symbol and w.action <> 'CLOSE'
          and w.request_id is not null
        order by w.created_at desc limit 2000
      ) r
    ), '[]')
  ) order by e.last_exit), '[]')
  from (
    select t.user_id, lower(t.exchange) as exchange, t.symbol, max(t.exit_time) as last_exit
    from public.trades t
    where not t.is_paper and t.exit_time > clock_timestamp() - make_interval(secs => p_within_s)
    group by t.user_id, lower(t.exchange), t.symbol
  ) e
$$;

-- venue_facts with the start of the record, all orders of every fill, and with what each booked order did: `order_positions`
-- ({our order: position}) and `booked_outside` ({order of others: {quantity, value_usd, until_ms}}).
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
    'unbooked_net', coalesce(v_record.outside_net, public.outside_quantity(p_user_id, p_exchange, p_symbol)),
    'order_positions', coalesce((
      select jsonb_object_agg(o.order_id, f.position_id)
      from public.fills f cross join unnest(public.order_ids_of_fill(f)) o (order_id)
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

-- All that is needed to compare one symbol of an account with its venue. `order_ids` are the venue's numbers of our orders
-- that
-- are booked, `outside_order_ids` of orders of others that are, `forced_order_ids` of those whose trades the record did not
-- show;
-- `cost_ids` name the income of liquidations that is booked, `last_fill_ms` is the venue's time of the newest fill;
-- `unsettled` are
-- requests whose outcome is not known (not those that only wait with a rest), and `last_fill_id` tells whether something was
-- booked between two looks.
create or replace function public.venue_facts(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_record public.venue_records;
  v_first timestamptz;
  v_since timestamptz;
begin
  select * into v_record from public.venue_records r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol;
  select min(p.created_at) into v_first from public.positions p
    where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper;
  v_since := least(v_first, v_record.updated_at) - interval '1 day'; -- a day, for clocks that differ
  return jsonb_build_object(
    'positions', coalesce((
      select jsonb_agg(public.position_json(p) order by p.entry_time, p.id) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    ), '[]'),
    'order_ids', coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.created_at >= v_since and f.order_id is not null and not starts_with(f.request_id, 'venue/')
    ), '[]'),
    'outside_order_ids', coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.created_at >= v_since and f.order_id is not null and starts_with(f.request_id, 'venue/')
    ), '[]'),
    'forced_order_ids', coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.created_at >= v_since and f.order_id is not null and f.request_id like 'venue/%/0/%'
    ), '[]'),
    'first_ms', (
      select min(coalesce(p.entry_market_time_ms, (extract(epoch from p.created_at) * 1000)::bigint)) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    ),
    'last_trade_id', v_record.last_trade_id,
    'unbooked_net', coalesce(v_record.outside_net, 0),
    'costs_until_ms', coalesce(v_record.costs_until_ms, 0),
    'outside_net', public.outside_quantity(p_user_id, p_exchange, p_symbol),
    'read_ms', coalesce(v_record.read_ms, 0),
    'cost_ids', coalesce((
      select jsonb_agg(c.income_id) from public.liquidation_costs c
      where c.user_id = p_user_id and c.exchange = p_exchange and c.symbol = p_symbol
    ), '[]'),
    'last_fill_ms', coalesce((
      select f.market_time_ms from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
      order by f.id desc limit 1
    ), 0),
    'unsettled', coalesce((
      select jsonb_agg(r.request_id) from public.webhook_requests r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and public.is_unsettled(r)
    ), '[]'),
    'last_fill_id', coalesce((
      select max(f.id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
    ), 0)
  );
end
$$;

-- Why the last five live trades of a strategy (null: of the person) in a symbol ended, newest first.
create or replace function public.exit_reasons(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(t.exit_reason order by t.exit_time desc), '[]')
  from (
    select x.exit_reason, x.exit_time from public.trades x
    where x.user_id = p_user_id and lower(x.exchange) = p_exchange and x.symbol = p_symbol and not x.is_paper
      and x.strategy_id is not distinct from p_strategy_id and x.exit_reason is not null
    order by x.exit_time desc limit 5
  ) t
$$;

-- Books what ended at the venue, and how far the record was read, at once. False, and nothing is done, when the books are not what
-- `p_seen` ({position id: quantity}, `last_fill_id`) saw, or a request other than `p_request_id` is under way in the symbol.
create or replace function public.book_outside(
  p_user_id uuid, p_exchange text, p_symbol text, p_request_id text, p_seen jsonb, p_exits jsonb, p_record jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_exit jsonb;
  v_fill public.fills;
begin
  perform public.lock_live_books(p_user_id, p_exchange, p_symbol);
  if public.venue_facts_differ(p_user_id, p_exchange, p_symbol, p_request_id, p_seen) or exists (
    select from public.liquidation_costs c
    where c.user_id = p_user_id and c.exchange = p_exchange and c.symbol = p_symbol and p_record -> 'cost_ids' ? c.income_id
  ) then
    return to_jsonb(false);
  end if;
  for v_exit in select e.value from jsonb_array_elements(p_exits) e loop
    v_fill := public.insert_fill(v_exit ->> 'request_id', p_user_id, v_exit -> 'fill');
    perform public.apply_close(v_fill, v_exit -> 'fill');
  end loop;
  insert into public.liquidation_costs (user_id, exchange, symbol, income_id)
    select p_user_id, p_exchange, p_symbol, c.income_id from jsonb_array_elements_text(p_record -> 'cost_ids') c (income_id)
    on conflict do nothing;
  insert into public.venue_records as r (user_id, exchange, symbol, last_trade_id, outside_net, read_ms)
    values (
      p_user_id, p_exchange, p_symbol, (p_record ->> 'last_trade_id')::bigint, (p_record ->> 'unbooked_net')::numeric,
      (p_record ->> 'read_ms')::bigint
    )
    on conflict (user_id, exchange, symbol) do update
      set last_trade_id = excluded.last_trade_id, outside_net = excluded.outside_net,
          read_ms = greatest(r.read_ms, excluded.read_ms), updated_at = clock_timestamp();
  return to_jsonb(true);
end
$$;

-- Whether the books are not what `p_seen` saw, or a request other than `p_request_id` is under way.
create or replace function public.venue_facts_differ(
  p_user_id uuid, p_exchange text, p_symbol text, p_request_id text, p_seen jsonb
) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from (
      select p.id::text as id, p.quantity from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    ) held full join jsonb_each_text(p_seen -> 'positions') seen on seen.key = held.id
    where held.quantity is distinct from seen.value::numeric
  ) or exists (
    select from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and public.is_unsettled(r)
      and r.request_id is distinct from p_request_id
  ) or exists (
    select from public.fills f
    where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
      and f.id > (p_seen ->> 'last_fill_id')::bigint
  ) or exists ( -- somebody else has read on
    select from public.venue_records r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.last_trade_id is distinct from (p_seen ->> 'last_trade_id')::bigint
  )
$$;

-- Locks the live books that hold a symbol of an account, and those of the strategies `p_also`, in the order in which bookings and
-- mark_symbol do: books, then positions, then ledgers, each in the order of strategies. Without that, they wait in a circle.
create or replace function public.lock_live_books(
  p_user_id uuid, p_exchange text, p_symbol text, p_also uuid[] default '{}'
) returns void
language plpgsql set search_path = '' as $$
declare
  v_strategies uuid[];
  v_strategy_id uuid;
begin
  perform pg_advisory_xact_lock(hashtextextended(concat_ws('/', 'venue', p_user_id, p_exchange, p_symbol), 0));
  select array_agg(b.strategy_id order by b.strategy_id) into v_strategies from (
    select p.strategy_id from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    union
    select a.strategy_id from unnest(p_also) a (strategy_id)
  ) b;
  foreach v_strategy_id in array coalesce(v_strategies, '{}') loop
    perform public.lock_book(p_user_id, v_strategy_id, false);
  end loop;
  perform from public.positions p
    where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    order by p.strategy_id, p.id
    for update;
  perform from public.strategy_ledger l
    where l.strategy_id = any (v_strategies) and not l.is_paper
    order by l.strategy_id
    for update;
end
$$;

revoke execute on function
  public.live_accounts, public.ended_live_symbols, public.symbol_facts, public.venue_facts, public.exit_reasons,
  public.book_outside, public.venue_facts_differ, public.lock_live_books
  from public, anon, authenticated;
grant execute on function
  public.live_accounts, public.ended_live_symbols, public.symbol_facts, public.venue_facts, public.exit_reasons,
  public.book_outside, public.venue_facts_differ, public.lock_live_books
  to service_role;
