-- Funding: in which symbols payments are looked for, to which positions one belongs, and how it is booked.

-- Symbols in which something is held, or has ended and may have payments that are not known: since when, until when funding is
-- known (0: never), and when the last of it ended (0: nothing has). Known is live how far the account's income was read, on paper
-- the oldest of the newest payments of what is held.
create or replace function public.funding_places(p_within_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  with held as (
    select p.id, p.user_id, lower(p.exchange) as exchange, p.symbol, p.is_paper, true as is_held,
      public.market_ms(p.entry_market_time_ms, coalesce(p.entry_time, p.created_at)) as first_ms, 0::bigint as last_ms
    from public.positions p
    union all
    select f.position_id, f.user_id, f.exchange, f.symbol, f.is_paper, false,
      min(public.market_ms(f.market_time_ms, f.created_at)), max(public.market_ms(f.market_time_ms, f.created_at))
    from public.fills f where f.position_id in (select public.ended_positions_awaiting_funding(p_within_s))
    group by f.position_id, f.user_id, f.exchange, f.symbol, f.is_paper
  )
  select coalesce(jsonb_agg(to_jsonb(a)), '[]') from (
    select h.user_id, h.exchange, h.symbol, h.is_paper, bool_or(h.is_held) as is_held, min(h.first_ms) as first_ms,
      max(h.last_ms) as last_ms,
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

-- Positions of which a payment may be unknown though they have ended: within so many seconds, or since payments were read. The
-- books (person, exchange, symbol) are walked by the index, one step each.
create or replace function public.ended_positions_awaiting_funding(p_within_s double precision) returns setof uuid
language sql stable set search_path = '' as $$
  with recursive books as (
    (
      select f.is_paper, f.user_id, f.exchange, f.symbol from public.fills f where f.kind <> 'open'
      order by f.is_paper, f.user_id, f.exchange, f.symbol limit 1
    )
    union all
    select n.is_paper, n.user_id, n.exchange, n.symbol
    from books b
    cross join lateral (
      select f.is_paper, f.user_id, f.exchange, f.symbol from public.fills f
      where f.kind <> 'open' and (f.is_paper, f.user_id, f.exchange, f.symbol) > (b.is_paper, b.user_id, b.exchange, b.symbol)
      order by f.is_paper, f.user_id, f.exchange, f.symbol limit 1
    ) n
  ), known as (
    select b.*, coalesce(case when b.is_paper then p.read_ms else r.read_ms end, 0) as read_ms
    from books b
    left join public.funding_reads r on r.user_id = b.user_id and r.exchange = b.exchange
    left join public.paper_funding_reads p on p.user_id = b.user_id and p.exchange = b.exchange and p.symbol = b.symbol
  )
  select f.position_id from public.fills f
  where f.created_at > clock_timestamp() - make_interval(secs => p_within_s) and f.kind <> 'open' and f.position_id is not null
  union
  select f.position_id
  from known k
  join public.fills f on f.is_paper = k.is_paper and f.user_id = k.user_id and f.exchange = k.exchange and f.symbol = k.symbol
  where f.kind <> 'open' and f.position_id is not null
    and public.market_ms(f.market_time_ms, f.created_at) > k.read_ms - 8 * 3600000
$$;

-- Until when the income of a live account was read; a moment before one that is known changes nothing.
create or replace function public.note_funding_read(p_user_id uuid, p_exchange text, p_read_ms bigint) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.funding_reads as r (user_id, exchange, read_ms) values (p_user_id, p_exchange, p_read_ms)
    on conflict (user_id, exchange) do update
      set read_ms = greatest(r.read_ms, excluded.read_ms), updated_at = clock_timestamp();
  return to_jsonb(true);
end
$$;

-- Until when payments of a symbol on paper are known; a moment before one that is known changes nothing.
create or replace function public.note_paper_funding_read(
  p_user_id uuid, p_exchange text, p_symbol text, p_read_ms bigint
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.paper_funding_reads as r (user_id, exchange, symbol, read_ms)
    values (p_user_id, p_exchange, p_symbol, p_read_ms)
    on conflict (user_id, exchange, symbol) do update
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
    ), public.outside_quantity(p_user_id, p_exchange, p_symbol)) end,
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
    update public.positions p set funding_usd = coalesce(public.finite_or_null(p.funding_usd), 0) + v_share.held_usd
      where p.id = v_share.position_id and p.user_id = p_user_id returning * into v_position;
    if not found then
      raise exception 'position % of a payment of funding is not held', v_share.position_id using errcode = 'SK409';
    end if;
    if v_position.current_price is not null then
      perform public.mark_positions_by_id(array[v_position.id], v_position.current_price);
    end if;
    perform public.update_ledger(v_position.strategy_id, v_position.is_paper, 0);
  end loop;
  return to_jsonb('booked'::text);
end
$$;

-- Locks what book_funding changes, in the order in which bookings and mark_symbol do.
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
      select public.round_half_even(sum(public.finite_or_null(t.pnl_usd)), 2) from public.trades t where t.decision_id = l.id
    )
    where l.id = v_trade.decision_id;
  perform public.update_ledger(v_trade.strategy_id, v_trade.is_paper, p_usd);
end
$$;

revoke execute on function
  public.funding_places, public.ended_positions_awaiting_funding, public.note_funding_read, public.note_paper_funding_read,
  public.funding_known, public.funding_facts, public.book_funding, public.lock_funded_books, public.add_funding_to_trade
  from public, anon, authenticated;
grant execute on function
  public.funding_places, public.ended_positions_awaiting_funding, public.note_funding_read, public.note_paper_funding_read,
  public.funding_known, public.funding_facts, public.book_funding, public.lock_funded_books, public.add_funding_to_trade
  to service_role;
