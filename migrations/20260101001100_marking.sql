-- What the books are worth: positions at the market's price, each strategy's ledger, equity over time, and how the books
-- compare with what the venues hold.

create or replace function public.value_positions(p_ids uuid[], p_price numeric) returns void
language sql set search_path = '' as $$
  update public.positions p
    set current_price = p_price, last_price_update = clock_timestamp(), unrealized_pnl_usd = u.pnl,
        unrealized_pnl_percent = round(u.pnl * 100 / nullif(u.cost, 0), 4)
    from (
      select q.id, q.cost,
        (public.round_half_even(q.quantity * p_price, 8) - q.cost) * case q.side when 'LONG' then 1 else -1 end - q.fees_usd as pnl
      from (
        select o.id, o.quantity, o.fees_usd, public.position_side(o.side) as side,
          coalesce(o.cost_usd, public.round_half_even(o.entry_price * o.quantity, 8)) as cost
        from public.positions o where o.id = any (p_ids)
      ) q
    ) u
    where p.id = u.id
$$;

-- One marker at a time, positions before ledgers, strategies in order: two of them, or a marker and a booking, cannot wait for
-- each other in a circle. Only those ledgers are touched whose peak may have risen.
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
    having coalesce(l.realized_pnl_usd + sum(coalesce(p.unrealized_pnl_usd, -p.fees_usd)) > l.peak_pnl_usd, true)
    order by p.strategy_id, p.is_paper
  loop
    perform public.update_ledger(v_book.strategy_id, v_book.is_paper, 0);
  end loop;
  return to_jsonb(coalesce(cardinality(v_ids), 0));
end
$$;

-- Adds realised P&L (already in trades) and lifts the peak to today's equity.
create or replace function public.update_ledger(p_strategy_id uuid, p_is_paper boolean, p_realized numeric) returns void
language plpgsql set search_path = '' as $$
begin
  if not exists (select from public.ai_strategies s where s.id = p_strategy_id) then
    return; -- a person's own signal belongs to no strategy's equity
  end if;
  insert into public.strategy_ledger (strategy_id, is_paper, realized_pnl_usd)
    select p_strategy_id, p_is_paper, coalesce(sum(t.pnl_usd), 0) - p_realized
    from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper
    having not exists (select from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper)
    on conflict do nothing;
  -- A statement sees what was there when it began, however long it waits for a row. Waiting first, the next one never adds
  -- the profit that a booking has just realised to the same profit unrealised.
  perform from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper for update;
  update public.strategy_ledger l
    set realized_pnl_usd = l.realized_pnl_usd + p_realized, updated_at = clock_timestamp(),
        peak_pnl_usd = greatest(l.peak_pnl_usd, l.realized_pnl_usd + p_realized + (
          select coalesce(sum(coalesce(p.unrealized_pnl_usd, -p.fees_usd)), 0) from public.positions p
          where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper
        ))
    where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
end
$$;

-- A point for every book whose equity has moved since its last one, at most one per interval; the number of points.
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
  where last.at is null
    or (last.at <= clock_timestamp() - make_interval(secs => p_interval_s) and last.equity_usd <> round(f.equity_usd, 8))
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

create or replace function public.live_accounts() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('user_id', a.user_id, 'exchange', a.exchange)), '[]')
  from (
    select c.user_id, lower(c.exchange) as exchange from public.bot_credentials c
      where c.exchange <> 'webhook' and (c.api_key is not null or c.extra_metadata ->> 'private_key' is not null)
    union
    select p.user_id, lower(p.exchange) from public.positions p where not p.is_paper
  ) a
$$;

-- Compares the books with `p_nets` ({symbol: net quantity at the venue}) and keeps the differences; those that are open.
-- A symbol that is being traded this moment is left for the next time. Nothing in the books is changed.
create or replace function public.report_reconciliation(p_user_id uuid, p_exchange text, p_nets jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_row record;
begin
  for v_row in
    select coalesce(b.symbol, v.key) as symbol, coalesce(b.net, 0) as booked, coalesce(v.value::numeric, 0) as at_venue
    from (
      select p.symbol, sum(p.quantity * case public.position_side(p.side) when 'LONG' then 1 else -1 end) as net
      from public.positions p where p.user_id = p_user_id and lower(p.exchange) = p_exchange and not p.is_paper group by p.symbol
    ) b
    full join jsonb_each_text(p_nets || coalesce((
      select jsonb_object_agg(d.symbol, coalesce((p_nets ->> d.symbol)::numeric, 0))
      from public.reconciliation_differences d
      where d.user_id = p_user_id and d.exchange = p_exchange and d.resolved_at is null
    ), '{}')) v on v.key = b.symbol
  loop
    continue when exists (
      select from public.webhook_requests r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = v_row.symbol and r.status in ('submitted', 'filled')
    ) or exists (
      select from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = v_row.symbol and not f.is_paper
        and f.id > (select max(g.id) - 1000 from public.fills g) and f.created_at > v_now - interval '10 seconds'
    );
    if v_row.booked = v_row.at_venue then
      update public.reconciliation_differences d set resolved_at = v_now
        where d.user_id = p_user_id and d.exchange = p_exchange and d.symbol = v_row.symbol and d.resolved_at is null;
    else
      insert into public.reconciliation_differences as d (user_id, exchange, symbol, booked, at_venue)
        values (p_user_id, p_exchange, v_row.symbol, v_row.booked, v_row.at_venue)
        on conflict (user_id, exchange, symbol) where resolved_at is null
        do update set booked = excluded.booked, at_venue = excluded.at_venue, last_seen_at = v_now;
    end if;
  end loop;
  return coalesce((
    select jsonb_agg(to_jsonb(d) order by d.symbol) from public.reconciliation_differences d
    where d.user_id = p_user_id and d.exchange = p_exchange and d.resolved_at is null
  ), '[]');
end
$$;
