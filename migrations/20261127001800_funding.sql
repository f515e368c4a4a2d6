-- Funding: each payment of a venue, or on paper at its rate, is booked once, as a part of the P&L of what was held at its moment.

-- What was booked, by payment and position; the part of no position (others' on the account, or what nothing explains, with the
-- `reason`) has 0 for one. The parts of a payment are the payment.
create table if not exists public.funding_payments (
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  is_paper boolean not null,
  income_id text not null, -- the venue's; on paper the time of the payment
  position_id uuid not null,
  at_ms bigint not null, -- in the venue's time
  amount_usd numeric not null, -- positive when received
  reason text,
  booked_at timestamptz not null default clock_timestamp(),
  primary key (user_id, exchange, symbol, is_paper, income_id, position_id)
);
alter table public.funding_payments enable row level security;
revoke all on public.funding_payments from public, anon, authenticated;
grant select, insert, update, delete on public.funding_payments to service_role;
drop policy if exists sparky_service on public.funding_payments;
create policy sparky_service on public.funding_payments to service_role using (true) with check (true);

-- Until when (in the venue's time) the income of an account has been read.
create table if not exists public.funding_reads (
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  read_ms bigint not null,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (user_id, exchange)
);
alter table public.funding_reads enable row level security;
revoke all on public.funding_reads from public, anon, authenticated;
grant select, insert, update, delete on public.funding_reads to service_role;
drop policy if exists sparky_service on public.funding_reads;
create policy sparky_service on public.funding_reads to service_role using (true) with check (true);

-- `funding_places` asks for the newest payment of every position each 15 s, and `funding_known` for what is new of an account: both
-- would read all payments that were ever booked.
create index if not exists funding_payments_position_idx on public.funding_payments (position_id, at_ms);
create index if not exists funding_payments_account_idx on public.funding_payments (user_id, exchange, is_paper, at_ms);

create index if not exists fills_position_idx on public.fills (position_id);
create index if not exists fills_created_idx on public.fills (created_at);

-- As before; and the closed part has its share of the funding. P&L is net of fees and funding.
create or replace function public.insert_trade(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns public.trades
language plpgsql set search_path = '' as $$
declare
  v_is_all boolean := p_fill.quantity = p_position.quantity;
  v_value numeric := trim_scale(p_fill.quantity * p_fill.price);
  v_all_cost numeric := coalesce(public.figure(p_position.cost_usd), public.figure(p_position.entry_price * p_position.quantity));
  v_all_fees numeric := coalesce(public.figure(p_position.fees_usd), 0);
  v_all_funding numeric := coalesce(public.figure(p_position.funding_usd), 0);
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

-- As before; and the rest keeps the whole funding less what the closed part took.
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
          fees_usd = p.fees_usd - (v_trade.fees_usd - p_fill.fee_usd),
          funding_usd = coalesce(public.figure(p.funding_usd), 0) - v_trade.funding_usd
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
        (q.quantity * p_price - q.cost) * case q.side when 'LONG' then 1 else -1 end - q.fees_usd + q.funding_usd as pnl
      from (
        select o.id, o.quantity, o.fees_usd, o.funding_usd, public.position_side(o.side) as side,
          coalesce(o.cost_usd, o.entry_price * o.quantity) as cost
        from public.positions o where o.id = any (p_ids)
      ) q
    ) u
    where p.id = u.id
$$;

-- As before; what is held and has no price yet is worth its funding less its fees.
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
          select coalesce(sum(coalesce(p.unrealized_pnl_usd, p.funding_usd - p.fees_usd)), 0) from public.positions p
          where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper
        )))
    where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
end
$$;

create or replace function public.mark_positions(p_exchange text, p_symbol text, p_price numeric) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_ids uuid[];
  v_book record;
begin
  perform pg_advisory_xact_lock(hashtextextended('mark', 0));
  select array_agg(h.id) into v_ids from (
    select p.id from public.positions p
    where lower(p.exchange) = p_exchange and p.symbol = p_symbol
    order by p.strategy_id, p.id
    for update -- so that the value is that of the quantity a fill has just booked
  ) h;
  perform public.value_positions(v_ids, p_price);
  for v_book in
    select p.strategy_id, p.is_paper
    from public.positions p
    left join public.strategy_ledger l on l.strategy_id = p.strategy_id and l.is_paper = p.is_paper
    where p.strategy_id in (select q.strategy_id from public.positions q where q.id = any (v_ids))
    group by p.strategy_id, p.is_paper, l.realized_pnl_usd, l.peak_pnl_usd
    having coalesce(
      l.realized_pnl_usd + sum(coalesce(p.unrealized_pnl_usd, p.funding_usd - p.fees_usd)) > l.peak_pnl_usd, true
    )
    order by p.strategy_id, p.is_paper
  loop
    perform public.update_ledger(v_book.strategy_id, v_book.is_paper, 0);
  end loop;
  return to_jsonb(coalesce(cardinality(v_ids), 0));
end
$$;

-- Equity = capital + realised P&L + unrealised P&L; unrealised P&L is net of the entry fees and of funding, which are already paid.
create or replace function public.strategy_figures(
  p_strategy_id uuid, p_is_paper boolean, p_capital_usd numeric,
  out realized_pnl_usd numeric, out unrealized_pnl_usd numeric, out equity_usd numeric,
  out peak_equity_usd numeric, out drawdown_percent numeric
)
language plpgsql stable security definer set search_path = '' as $$
declare
  v_peak_pnl numeric := 0;
begin
  select l.realized_pnl_usd, l.peak_pnl_usd into realized_pnl_usd, v_peak_pnl
    from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
  if not found then -- trades of the original system have no ledger yet
    select coalesce(sum(t.pnl_usd), 0) into realized_pnl_usd
      from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper;
    v_peak_pnl := 0;
  end if;
  select coalesce(sum(coalesce(p.unrealized_pnl_usd, p.funding_usd - p.fees_usd)), 0) into unrealized_pnl_usd
    from public.positions p where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper;
  equity_usd := p_capital_usd + realized_pnl_usd + unrealized_pnl_usd;
  peak_equity_usd := p_capital_usd + greatest(v_peak_pnl, realized_pnl_usd + unrealized_pnl_usd);
  drawdown_percent := round(greatest(0, peak_equity_usd - equity_usd) * 100 / nullif(peak_equity_usd, 0), 6);
end
$$;

-- A moment of the books in the venue's time, as far as it is known.
create or replace function public.market_ms(p_market_time_ms bigint, p_at timestamptz) returns bigint
language sql immutable set search_path = '' as $$
  select coalesce(p_market_time_ms, (extract(epoch from p_at) * 1000)::bigint)
$$;

-- Symbols in which something is held, or was within so many seconds: since when, and until when funding is known (0: never). Live
-- that is how far the account's income was read, on paper the oldest of the newest payments of what is held.
create or replace function public.funding_places(p_within_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  with lately as (
    select distinct f.position_id from public.fills f
    where f.created_at > clock_timestamp() - make_interval(secs => p_within_s) and f.kind <> 'open' and f.position_id is not null
  ), held as (
    select p.id, p.user_id, lower(p.exchange) as exchange, p.symbol, p.is_paper, true as is_held,
      public.market_ms(p.entry_market_time_ms, coalesce(p.entry_time, p.created_at)) as first_ms
    from public.positions p
    union all
    select f.position_id, f.user_id, f.exchange, f.symbol, f.is_paper, false,
      min(public.market_ms(f.market_time_ms, f.created_at))
    from public.fills f where f.position_id in (select l.position_id from lately l)
    group by f.position_id, f.user_id, f.exchange, f.symbol, f.is_paper
  )
  select coalesce(jsonb_agg(to_jsonb(a)), '[]') from (
    select h.user_id, h.exchange, h.symbol, h.is_paper, bool_or(h.is_held) as is_held, min(h.first_ms) as first_ms,
      case when h.is_paper then coalesce(min(greatest(h.first_ms, paid.at_ms)), 0) else coalesce(min(r.read_ms), 0) end as read_ms
    from held h
    left join lateral (
      select max(y.at_ms) as at_ms from public.funding_payments y
      where h.is_paper and y.user_id = h.user_id and y.exchange = h.exchange and y.symbol = h.symbol and y.is_paper
        and y.position_id = h.id
    ) paid on true
    left join public.funding_reads r on not h.is_paper and r.user_id = h.user_id and r.exchange = h.exchange
    group by h.user_id, h.exchange, h.symbol, h.is_paper
    order by h.user_id, h.exchange, h.symbol, h.is_paper
  ) a
$$;

create or replace function public.note_funding_read(p_user_id uuid, p_exchange text, p_read_ms bigint) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.funding_reads as r (user_id, exchange, read_ms) values (p_user_id, p_exchange, p_read_ms)
    on conflict (user_id, exchange) do update
      set read_ms = greatest(r.read_ms, excluded.read_ms), updated_at = clock_timestamp();
  return to_jsonb(true);
end
$$;

-- Which payments since p_since_ms are booked: [symbol, income id, position].
create or replace function public.funding_known(
  p_user_id uuid, p_exchange text, p_is_paper boolean, p_since_ms bigint
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('symbol', y.symbol, 'income_id', y.income_id, 'position_id', y.position_id)), '[]')
  from public.funding_payments y
  where y.user_id = p_user_id and y.exchange = p_exchange and y.is_paper = p_is_paper and y.at_ms >= p_since_ms
$$;

-- All that says which positions of a symbol a payment since p_since_ms belongs to: what is held, the fills of that and of what has
-- ended since, oldest first, what others hold on the account, and whether an order is under way.
create or replace function public.funding_facts(
  p_user_id uuid, p_exchange text, p_symbol text, p_is_paper boolean, p_since_ms bigint
) returns jsonb
language sql stable security definer set search_path = '' as $$
  with held as (
    select p.* from public.positions p
    where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and p.is_paper = p_is_paper
  ), own as (
    select f.*, public.market_ms(f.market_time_ms, f.created_at) as at_ms from public.fills f
    where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and f.is_paper = p_is_paper
      and f.position_id is not null
  )
  select jsonb_build_object(
    'held', coalesce((
      select jsonb_agg(jsonb_build_object(
        'position_id', h.id, 'side', public.position_side(h.side), 'quantity', h.quantity,
        'since_ms', public.market_ms(h.entry_market_time_ms, coalesce(h.entry_time, h.created_at))
      ) order by h.id) from held h
    ), '[]'),
    'fills', coalesce((
      select jsonb_agg(jsonb_build_object(
        'fill_id', o.id, 'position_id', o.position_id, 'trade_id', o.trade_id, 'is_entry', o.kind = 'open', 'side', o.side,
        'quantity', o.quantity, 'at_ms', o.at_ms
      ) order by o.at_ms, o.id)
      from own o
      where o.position_id in (select h.id from held h)
        or o.position_id in (select e.position_id from own e where e.at_ms >= p_since_ms)
    ), '[]'),
    'others_net', case when p_is_paper then 0 else coalesce((
      select r.outside_net from public.venue_records r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
    ), public.outside_net(p_user_id, p_exchange, p_symbol)) end,
    'is_unsettled', not p_is_paper and exists (
      select from public.webhook_requests r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and r.status in ('submitted', 'filled')
    ),
    'last_fill_id', coalesce((
      select max(f.id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and f.is_paper = p_is_paper
    ), 0)
  )
$$;

-- Locks what book_funding changes, in the order in which bookings and mark_positions do.
create or replace function public.lock_funded_books(
  p_user_id uuid, p_exchange text, p_symbol text, p_is_paper boolean, p_positions uuid[]
) returns void
language plpgsql set search_path = '' as $$
declare
  v_strategies uuid[];
  v_strategy_id uuid;
begin
  select coalesce(array_agg(s.strategy_id order by s.strategy_id), '{}') into v_strategies from (
    select f.strategy_id from public.fills f where f.position_id = any (p_positions)
    union
    select p.strategy_id from public.positions p where p.id = any (p_positions)
  ) s;
  if not p_is_paper then
    perform public.lock_live_books(p_user_id, p_exchange, p_symbol, v_strategies);
    return;
  end if;
  foreach v_strategy_id in array v_strategies loop
    perform public.lock_book(p_user_id, v_strategy_id, true);
  end loop;
  perform from public.positions p where p.id = any (p_positions) order by p.strategy_id, p.id for update;
  perform from public.strategy_ledger l
    where l.strategy_id = any (v_strategies) and l.is_paper order by l.strategy_id for update;
end
$$;

-- A payment's part of a trade that has ended: in its P&L, in its fill, its decision and the ledger.
create or replace function public.add_funding_to_trade(p_user_id uuid, p_trade_id uuid, p_usd numeric) returns void
language plpgsql set search_path = '' as $$
declare
  v_trade public.trades;
begin
  update public.trades t
    set funding_usd = t.funding_usd + p_usd, pnl_usd = t.pnl_usd + p_usd,
        pnl_percent = round((t.pnl_usd + p_usd) * 100 / nullif(t.position_size_usd, 0), 4), is_winner = t.pnl_usd + p_usd > 0
    where t.id = p_trade_id and t.user_id = p_user_id returning * into v_trade;
  if not found then
    raise exception 'trade % of a payment of funding is not in the books', p_trade_id using errcode = 'SK409';
  end if;
  update public.fills f set pnl_usd = v_trade.pnl_usd, pnl_percent = v_trade.pnl_percent where f.trade_id = v_trade.id;
  update public.ai_trade_log l
    set actual_pnl = (
      select public.round_half_even(sum(public.figure(t.pnl_usd)), 2) from public.trades t where t.decision_id = l.id
    )
    where l.id = v_trade.decision_id;
  perform public.update_ledger(v_trade.strategy_id, v_trade.is_paper, p_usd);
end
$$;

-- Books one payment: p_shares are [{position_id, usd, held_usd, trades: {trade: usd}}], where usd is the sum of the others. 'known',
-- and nothing is done, when it is booked (on paper: for one of these positions); 'changed' when anything was booked in the symbol
-- after the fill p_last_fill_id, up to which the shares were computed.
create or replace function public.book_funding(
  p_user_id uuid, p_exchange text, p_symbol text, p_is_paper boolean, p_income_id text, p_at_ms bigint, p_shares jsonb,
  p_others_usd numeric, p_reason text, p_last_fill_id bigint
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_positions uuid[];
  v_share record;
  v_part record;
  v_position public.positions;
begin
  select coalesce(array_agg((s.value ->> 'position_id')::uuid), '{}') into v_positions from jsonb_array_elements(p_shares) s;
  perform public.lock_funded_books(p_user_id, p_exchange, p_symbol, p_is_paper, v_positions);
  if exists (
    select from public.funding_payments y
    where y.user_id = p_user_id and y.exchange = p_exchange and y.symbol = p_symbol and y.is_paper = p_is_paper
      and y.income_id = p_income_id and (not p_is_paper or y.position_id = any (v_positions))
  ) then
    return to_jsonb('known'::text);
  elsif exists (
    select from public.fills f
    where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and f.is_paper = p_is_paper
      and f.id > p_last_fill_id
  ) then
    return to_jsonb('changed'::text);
  end if;
  if p_others_usd <> 0 or p_reason is not null then
    insert into public.funding_payments (user_id, exchange, symbol, is_paper, income_id, position_id, at_ms, amount_usd, reason)
      values (
        p_user_id, p_exchange, p_symbol, p_is_paper, p_income_id, '00000000-0000-0000-0000-000000000000', p_at_ms, p_others_usd,
        p_reason
      );
  end if;
  for v_share in
    select * from jsonb_to_recordset(p_shares) s (position_id uuid, usd numeric, held_usd numeric, trades jsonb) order by 1
  loop
    insert into public.funding_payments (user_id, exchange, symbol, is_paper, income_id, position_id, at_ms, amount_usd)
      values (p_user_id, p_exchange, p_symbol, p_is_paper, p_income_id, v_share.position_id, p_at_ms, v_share.usd);
    for v_part in select t.key::uuid as trade_id, t.value::numeric as usd from jsonb_each_text(v_share.trades) t order by 1 loop
      perform public.add_funding_to_trade(p_user_id, v_part.trade_id, v_part.usd);
    end loop;
    continue when v_share.held_usd = 0;
    update public.positions p set funding_usd = coalesce(public.figure(p.funding_usd), 0) + v_share.held_usd
      where p.id = v_share.position_id and p.user_id = p_user_id returning * into v_position;
    if not found then
      raise exception 'position % of a payment of funding is not held', v_share.position_id using errcode = 'SK409';
    end if;
    if v_position.current_price is not null then
      perform public.value_positions(array[v_position.id], v_position.current_price);
    end if;
    perform public.update_ledger(v_position.strategy_id, v_position.is_paper, 0);
  end loop;
  return to_jsonb('booked'::text);
end
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.funding_places(double precision)', 'public.note_funding_read(uuid, text, bigint)',
    'public.funding_known(uuid, text, boolean, bigint)', 'public.funding_facts(uuid, text, text, boolean, bigint)',
    'public.book_funding(uuid, text, text, boolean, text, bigint, jsonb, numeric, text, bigint)',
    'public.market_ms(bigint, timestamptz)', 'public.lock_funded_books(uuid, text, text, boolean, uuid[])',
    'public.add_funding_to_trade(uuid, uuid, numeric)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
