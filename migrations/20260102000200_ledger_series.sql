-- Equity over time, and what the books and the venues' own records disagree about. Both are only ever added to.

create table if not exists public.equity_points (
  strategy_id uuid not null references public.ai_strategies (id) on delete cascade,
  is_paper boolean not null,
  at timestamptz not null default clock_timestamp(),
  equity_usd numeric(20, 8) not null,
  realized_pnl_usd numeric(20, 8) not null,
  unrealized_pnl_usd numeric(20, 8) not null,
  drawdown_percent numeric not null,
  primary key (strategy_id, is_paper, at)
);

-- Net quantities in the base asset, negative when short. A difference is resolved when the two agree again.
create table if not exists public.reconciliation_differences (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  booked numeric(28, 8) not null,
  at_venue numeric(28, 8) not null,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
create unique index if not exists reconciliation_open_key on public.reconciliation_differences (user_id, exchange, symbol)
  where resolved_at is null;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['equity_points', 'reconciliation_differences'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from public, anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    execute format('drop policy if exists sparky_service on public.%I', v_table);
    execute format('create policy sparky_service on public.%I to service_role using (true) with check (true)', v_table);
  end loop;
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
    select p.user_id, p.exchange from public.positions p where not p.is_paper
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
      from public.positions p where p.user_id = p_user_id and p.exchange = p_exchange and not p.is_paper group by p.symbol
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

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = any (array[
      'record_equity', 'equity_series', 'live_accounts', 'report_reconciliation'
    ])
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;
