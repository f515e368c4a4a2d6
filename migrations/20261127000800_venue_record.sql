-- What happened at a venue without us: read from the account's own record, booked as exits, and else kept as a difference.

-- Up to which trade the record of a symbol has been read, and what others than Sparky did there net of what the books have taken
-- over (in the base asset, negative when sold). A row lives from the first reading until books and venue are both empty.
create table if not exists public.venue_records (
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  last_trade_id bigint not null,
  outside_net numeric not null default 0,
  costs_until_ms bigint not null default 0, -- what liquidations cost beyond commissions is settled by a person up to here
  read_ms bigint not null default 0, -- the newest moment of the venue's time that the reading knew
  updated_at timestamptz not null default clock_timestamp(),
  primary key (user_id, exchange, symbol)
);
alter table public.venue_records enable row level security;
revoke all on public.venue_records from public, anon, authenticated;
grant select, insert, update, delete on public.venue_records to service_role;
drop policy if exists sparky_service on public.venue_records;
create policy sparky_service on public.venue_records to service_role using (true) with check (true);

alter table public.venue_records add column if not exists read_ms bigint not null default 0;

-- What liquidations cost beyond the commissions of their trades, by the income that says so: each is booked once.
create table if not exists public.liquidation_costs (
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  income_id text not null,
  booked_at timestamptz not null default clock_timestamp(),
  primary key (user_id, exchange, symbol, income_id)
);
alter table public.liquidation_costs enable row level security;
revoke all on public.liquidation_costs from public, anon, authenticated;
grant select, insert, update, delete on public.liquidation_costs to service_role;
drop policy if exists sparky_service on public.liquidation_costs;
create policy sparky_service on public.liquidation_costs to service_role using (true) with check (true);

alter table public.reconciliation_differences add column if not exists reason text;

-- A rest is the second leg of an exit: what others hold on the opposite side keeps the venue from taking it as a reduction.
alter table public.fills drop constraint if exists fills_kind_check;
alter table public.fills add constraint fills_kind_check check (kind in ('open', 'close', 'rest', 'undo'));

-- What a person holds in the symbol outside Sparky, by their own word. A later migration says how that is known.
do $$
begin
  if to_regprocedure('public.outside_net(uuid, text, text)') is null then
    create function public.outside_net(p_user_id uuid, p_exchange text, p_symbol text) returns numeric
      language sql stable set search_path = '' as 'select 0::numeric';
  end if;
end
$$;

-- All that is needed to compare one symbol of an account with its venue. `order_ids` are the venue's numbers of our orders that
-- are booked, `outside_order_ids` of orders of others that are,
-- `forced_order_ids` of those whose trades the record did not show; `cost_ids` name the income of liquidations that is booked,
-- `last_fill_ms` is the venue's time of the newest fill; `unsettled` are requests whose outcome is not known, and
-- `last_fill_id` tells whether something was booked between two looks.
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
    'outside_net', public.outside_net(p_user_id, p_exchange, p_symbol),
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
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and r.status in ('submitted', 'filled')
    ), '[]'),
    'last_fill_id', coalesce((
      select max(f.id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
    ), 0)
  );
end
$$;

create index if not exists fills_symbol_idx on public.fills (user_id, exchange, symbol, id) where not is_paper;

-- Locks the live books that hold a symbol of an account, and those of the strategies `p_also`, in the order in which bookings and
-- mark_positions do: books, then positions, then ledgers, each in the order of strategies. Without that, they wait in a circle.
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
    perform public.book_close(v_fill, v_exit -> 'fill');
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
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and r.status in ('submitted', 'filled')
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

-- Compares the books with `p_nets` ({symbol: net quantity at the venue}) and keeps the differences; those that are open. What a
-- person holds outside Sparky does not count. `p_reasons` ({symbol: text}) says why no rule explained one.
-- A symbol that is being traded this moment is left for the next time: one of `p_checked` ({symbol: id of its newest fill}) when
-- anything was booked after that fill, any other when anything was booked since 10 s before the venue was asked, `p_age_s` ago.
-- Nothing in the books is changed.
drop function if exists public.report_reconciliation(uuid, text, jsonb, jsonb, jsonb);
drop function if exists public.report_reconciliation(uuid, text, jsonb, jsonb);
drop function if exists public.report_reconciliation(uuid, text, jsonb);
create or replace function public.report_reconciliation(
  p_user_id uuid, p_exchange text, p_nets jsonb, p_reasons jsonb default '{}', p_checked jsonb default '{}',
  p_age_s double precision default 0
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row record;
begin
  for v_row in
    select s.symbol, coalesce(b.net, 0) as booked,
      coalesce((p_nets ->> s.symbol)::numeric, 0) - public.outside_net(p_user_id, p_exchange, s.symbol) as at_venue
    from (
      select p.symbol from public.positions p
        where p.user_id = p_user_id and lower(p.exchange) = p_exchange and not p.is_paper
      union
      select jsonb_object_keys(p_nets)
      union
      select d.symbol from public.reconciliation_differences d
        where d.user_id = p_user_id and d.exchange = p_exchange and d.resolved_at is null
      union
      select r.symbol from public.venue_records r where r.user_id = p_user_id and r.exchange = p_exchange
    ) s
    left join (
      select p.symbol, sum(p.quantity * case public.position_side(p.side) when 'LONG' then 1 else -1 end) as net
      from public.positions p where p.user_id = p_user_id and lower(p.exchange) = p_exchange and not p.is_paper group by p.symbol
    ) b on b.symbol = s.symbol
  loop
    continue when exists (
      select from public.webhook_requests r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = v_row.symbol and r.status in ('submitted', 'filled')
    ) or exists (
      select from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = v_row.symbol and not f.is_paper
        and f.id > coalesce((p_checked ->> v_row.symbol)::bigint, (select max(g.id) - 1000 from public.fills g))
        and (p_checked ? v_row.symbol or f.created_at > v_now - make_interval(secs => 10 + p_age_s))
    );
    if v_row.booked = v_row.at_venue then
      update public.reconciliation_differences d set resolved_at = v_now
        where d.user_id = p_user_id and d.exchange = p_exchange and d.symbol = v_row.symbol and d.resolved_at is null;
      if v_row.at_venue = 0 and not exists (
        select from public.positions p
        where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = v_row.symbol and not p.is_paper
      ) and not exists (
        select from public.fills f join public.trades t on t.id = f.trade_id
        where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = v_row.symbol and not f.is_paper
          and f.created_at > v_now - interval '15 minutes' and t.exit_reason = 'liquidated'
      ) then -- nothing is left that a later reading would have to go on from
        delete from public.venue_records r
          where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = v_row.symbol;
      end if;
    else
      insert into public.reconciliation_differences as d (user_id, exchange, symbol, booked, at_venue, reason)
        values (p_user_id, p_exchange, v_row.symbol, v_row.booked, v_row.at_venue, left(p_reasons ->> v_row.symbol, 500))
        on conflict (user_id, exchange, symbol) where resolved_at is null
        do update set booked = excluded.booked, at_venue = excluded.at_venue, last_seen_at = v_now,
          reason = coalesce(excluded.reason, d.reason);
    end if;
  end loop;
  return coalesce((
    select jsonb_agg(to_jsonb(d) order by d.symbol) from public.reconciliation_differences d
    where d.user_id = p_user_id and d.exchange = p_exchange and d.resolved_at is null
  ), '[]');
end
$$;

-- The stored answer is what the sender gets, now and on every repetition; a close adds its P&L to it, that of all legs of the
-- exit. Without an answer the request goes on: a reversal is a close and an open, an exit may be a close and its rest.
create or replace function public.answer_request(
  p_id uuid, p_fill public.fills, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_answer jsonb := nullif(p_answer, 'null'::jsonb);
begin
  if v_answer is not null and p_fill.trade_id is not null then
    v_answer := v_answer || public.told_pnl(p_fill);
  end if;
  update public.webhook_requests r
    set status = case when v_answer is null then 'filled' else 'booked' end, answer = v_answer, answer_status = p_status,
        error_message = null, processed_at = clock_timestamp()
    where r.id = p_id;
  return v_answer;
end
$$;

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

-- {pnl: {usd, percent}} of an exit, with the other legs of the same exit.
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
    and case when p_fill.kind = 'undo' then f.kind = 'undo' else f.kind in ('close', 'rest') end
$$;

-- Ends a request whose last fill is in the books, with the answer that its sender gets; that answer.
create or replace function public.end_booked(
  p_request_id text, p_user_id uuid, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_fill public.fills;
  v_request public.webhook_requests;
begin
  select * into v_request from public.webhook_requests r
    where r.user_id = p_user_id and r.request_id = p_request_id for update;
  select * into v_fill from public.fills f
    where f.user_id = p_user_id and f.request_id = p_request_id order by f.id desc limit 1;
  if v_request.status not in ('received', 'submitted', 'filled') or v_fill.id is null then
    return v_request.answer;
  end if;
  return public.answer_request(v_request.id, v_fill, p_status, p_answer);
end
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.outside_net(uuid, text, text)', 'public.venue_facts(uuid, text, text)',
    'public.book_outside(uuid, text, text, text, jsonb, jsonb, jsonb)',
    'public.venue_facts_differ(uuid, text, text, text, jsonb)', 'public.lock_live_books(uuid, text, text, uuid[])',
    'public.report_reconciliation(uuid, text, jsonb, jsonb, jsonb, double precision)',
    'public.exit_reasons(uuid, text, text, uuid)', 'public.told_pnl(public.fills)', 'public.end_booked(text, uuid, integer, jsonb)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
