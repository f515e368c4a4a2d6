-- What the books are worth: positions at the market's price, each strategy's ledger, equity over time.

-- What is held, of all or of one person, strategy or exchange.
create or replace function public.open_positions(
  p_user_id uuid default null, p_strategy_id uuid default null, p_exchange text default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(public.position_json(p) order by p.entry_time, p.id), '[]')
  from public.positions p
  where (p_user_id is null or p.user_id = p_user_id)
    and (p_strategy_id is null or p.strategy_id = p_strategy_id)
    and (p_exchange is null or lower(p.exchange) = p_exchange)
$$;

-- A position as others are given it: in today's spelling, and with the venue's numbers of the orders that reduced it.
create or replace function public.position_json(p public.positions) returns jsonb
language sql stable set search_path = '' as $$
  select to_jsonb(p) || jsonb_build_object(
    'side', public.position_side(p.side),
    'exchange', lower(p.exchange),
    'entry_time', coalesce(p.entry_time, p.created_at),
    'position_size_usd', coalesce(p.position_size_usd, p.entry_price * p.quantity),
    'exit_order_ids', case when p.is_paper then '[]' else coalesce((
      select jsonb_agg(distinct o.order_id) from public.fills f cross join unnest(public.order_ids_of_fill(f)) o (order_id)
      where f.position_id = p.id and f.kind <> 'open' and not f.is_paper
    ), '[]') end
  )
$$;

-- One marker at a time, positions before ledgers, strategies in order: two of them, or a marker and a booking, cannot wait for
-- each other in a circle. Only those ledgers are touched whose peak may have risen.
create or replace function public.mark_symbol(p_exchange text, p_symbol text, p_price numeric) returns jsonb
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
  perform public.mark_positions_by_id(v_ids, p_price);
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

-- Values positions at a price: P&L is net of the entry fees and of funding.
create or replace function public.mark_positions_by_id(p_ids uuid[], p_price numeric) returns void
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

-- Adds realised P&L (already in trades) and lifts the peak to today's equity, if that is known. What is held and has no price
-- yet
-- is worth its funding less its fees.
create or replace function public.update_ledger(p_strategy_id uuid, p_is_paper boolean, p_realized numeric) returns void
language plpgsql set search_path = '' as $$
begin
  if not exists (select from public.ai_strategies s where s.id = p_strategy_id) then
    return; -- a person's own signal belongs to no strategy's equity
  end if;
  insert into public.strategy_ledger (strategy_id, is_paper, realized_pnl_usd)
    select p_strategy_id, p_is_paper, coalesce(sum(public.finite_or_null(t.pnl_usd)), 0) - p_realized
    from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper
    having not exists (select from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper)
    on conflict do nothing;
  -- A statement sees what was there when it began, however long it waits for a row. Waiting first, the next one never adds
  -- the profit that a booking has just realised to the same profit unrealised.
  perform from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper for update;
  update public.strategy_ledger l
    set realized_pnl_usd = l.realized_pnl_usd + p_realized, updated_at = clock_timestamp(),
        peak_pnl_usd = greatest(l.peak_pnl_usd, public.finite_or_null(l.realized_pnl_usd + p_realized + ( -- null counts for nothing
          select coalesce(sum(coalesce(p.unrealized_pnl_usd, p.funding_usd - p.fees_usd)), 0) from public.positions p
          where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper
        )))
    where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
end
$$;

-- A point for every book whose equity is known and has moved since its last one, at most one per interval; how many.
create or replace function public.append_equity_points(p_interval_s double precision) returns jsonb
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
  cross join lateral public.strategy_equity(s.id, l.is_paper, s.capital_usd) f
  left join lateral (
    select e.at, e.equity_usd from public.equity_points e
    where e.strategy_id = l.strategy_id and e.is_paper = l.is_paper order by e.at desc limit 1
  ) last on true
  where public.finite_or_null(f.equity_usd) is not null
    and public.finite_or_null(f.drawdown_percent) is not distinct from f.drawdown_percent
    and (last.at is null
      or (last.at <= clock_timestamp() - make_interval(secs => p_interval_s) and last.equity_usd <> f.equity_usd))
  on conflict do nothing;
  get diagnostics v_count = row_count;
  return to_jsonb(v_count);
end
$$;

-- Oldest first; the newest `p_limit` of those since `p_since`.
create or replace function public.equity_series(
  p_strategy_id uuid, p_is_paper boolean, p_since timestamptz default null, p_limit integer default 1000
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) order by d.at), '[]')
  from (
    select e.at, e.equity_usd, e.realized_pnl_usd, e.unrealized_pnl_usd, e.drawdown_percent
    from public.equity_points e
    where e.strategy_id = p_strategy_id and e.is_paper = p_is_paper and (p_since is null or e.at >= p_since)
    order by e.at desc limit least(p_limit, 100000)
  ) d
$$;

revoke execute on function
  public.open_positions, public.position_json, public.mark_symbol, public.mark_positions_by_id, public.update_ledger,
  public.append_equity_points, public.equity_series
  from public, anon, authenticated;
grant execute on function
  public.open_positions, public.position_json, public.mark_symbol, public.mark_positions_by_id, public.update_ledger,
  public.append_equity_points, public.equity_series
  to service_role;
