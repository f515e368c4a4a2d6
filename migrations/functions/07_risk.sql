-- What the risk checks read, in one view, and the kill switches above all limits.

create or replace function public.set_kill_switch(
  p_user_id uuid, p_strategy_id uuid, p_is_on boolean, p_reason text default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if p_is_on then
    insert into public.kill_switches (user_id, strategy_id, reason) values (p_user_id, p_strategy_id, left(p_reason, 500))
      on conflict do nothing;
  else
    delete from public.kill_switches k
      where k.user_id is not distinct from p_user_id and k.strategy_id is not distinct from p_strategy_id;
  end if;
  return to_jsonb(found);
end
$$;

-- A kill switch goes on whatever its reason holds: the reason is cut, and nothing is refused.
create or replace function public.shorten_reason() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.reason := left(new.reason, 500);
  return new;
end
$$;

create or replace function public.kill_switches() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(k) || jsonb_build_object('email', u.email, 'strategy_name', s.name) order by k.created_at), '[]')
  from public.kill_switches k
  left join auth.users u on u.id = k.user_id
  left join public.ai_strategies s on s.id = k.strategy_id
$$;

-- The widest switch that covers an entry; null when none does.
create or replace function public.active_kill_switch(p_user_id uuid, p_strategy_id uuid) returns text
language sql stable set search_path = '' as $$
  select case when k.strategy_id is not null then 'strategy' when k.user_id is not null then 'user' else 'global' end
  from public.kill_switches k
  where (k.user_id is null and k.strategy_id is null) or k.user_id = p_user_id or k.strategy_id = p_strategy_id
  order by (k.user_id is null and k.strategy_id is null) desc, k.strategy_id nulls first limit 1
$$;

-- Everything the risk checks need, in one view. What only a limit would look at is read only if there is that limit; what is
-- about a symbol, only of a live entry into `p_symbol`.
create or replace function public.portfolio(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_is_paper boolean, p_symbol text default null
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_day timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
  v_week timestamptz := date_trunc('week', now() at time zone 'UTC') at time zone 'UTC';
  v_limits record;
  v_today numeric;
  v_week_pnl numeric;
  v_entries bigint;
  v_failures bigint;
  v_undone bigint := case when p_is_paper then 0 end;
  v_undone_at timestamptz;
begin
  -- The original system lets several rows be about one exchange, in any spelling: the strictest counts.
  select count(*) as number, bool_or(s.kill_switch) as kill_switch, bool_and(s.allow_weekends) as allow_weekends,
      min(nullif(s.max_signal_age_sec, 0)) as max_signal_age_sec, min(nullif(s.max_daily_loss_usd, 0)) as max_daily_loss_usd,
      min(nullif(s.max_loss_per_week_usd, 0)) as max_loss_per_week_usd,
      min(nullif(s.max_trades_per_week, 0)) as max_trades_per_week,
      min(nullif(s.max_consecutive_failures, 0)) as max_consecutive_failures,
      min(nullif(s.max_concurrent_positions, 0)) as max_concurrent_positions,
      min(nullif(s.max_position_size_usd, 0)) as max_position_size_usd,
      min(nullif(s.max_spread_percent, 0)) as max_spread_percent, min(nullif(s.max_slippage_percent, 0)) as max_slippage_percent
    into v_limits from public.trade_settings_exchange s
    where s.user_id = p_user_id and lower(s.exchange) = lower(p_exchange);
  if v_limits.max_daily_loss_usd is not null or v_limits.max_loss_per_week_usd is not null then
    select coalesce(sum(t.pnl_usd) filter (where t.exit_time >= v_day), 0), coalesce(sum(t.pnl_usd), 0)
      into v_today, v_week_pnl from public.trades t
      where t.user_id = p_user_id and lower(t.exchange) = p_exchange and t.is_paper = p_is_paper and t.exit_time >= v_week;
  end if;
  if v_limits.max_trades_per_week is not null then
    select count(*) into v_entries from ( -- a position closed in parts is one entry
      select t.entry_time, t.symbol, t.strategy_id from public.trades t
        where t.user_id = p_user_id and lower(t.exchange) = p_exchange and t.is_paper = p_is_paper and t.entry_time >= v_week
      union
      select p.entry_time, p.symbol, p.strategy_id from public.positions p
        where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.is_paper = p_is_paper and p.entry_time >= v_week
    ) entries;
  end if;
  if v_limits.max_consecutive_failures is not null then
    v_failures := coalesce(public.consecutive_failures(p_user_id, p_exchange, p_is_paper), 0);
  end if;
  if not p_is_paper and p_symbol is not null then
    select u.number, u.last_at into v_undone, v_undone_at
      from public.consecutive_undone_entries(p_user_id, p_exchange, p_symbol) u;
  end if;
  return jsonb_build_object(
    'now', clock_timestamp(),
    'killed_by', public.active_kill_switch(p_user_id, p_strategy_id),
    'settings', case when v_limits.number > 0 then to_jsonb(v_limits) end,
    'realized_pnl_today_usd', v_today,
    'realized_pnl_week_usd', v_week_pnl,
    'trades_this_week', v_entries,
    'consecutive_failures', v_failures,
    'undone_in_symbol', v_undone,
    'last_undone_at', v_undone_at,
    'difference', (
      select jsonb_build_object('booked', d.booked, 'at_venue', d.at_venue, 'first_seen_at', d.first_seen_at)
      from public.reconciliation_differences d
      where not p_is_paper and d.user_id = p_user_id and d.exchange = p_exchange and d.symbol = p_symbol
        and d.resolved_at is null
    ),
    'open_position_count', (
      select count(*) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.is_paper = p_is_paper
    ),
    'open_positions', public.own_positions(p_user_id, p_exchange, p_strategy_id, null, p_is_paper),
    'strategy', (
      select to_jsonb(s) - array['custom_prompt', 'paused_traceback']
        || jsonb_build_object(
          'equity_usd', f.equity_usd, 'drawdown_percent', f.drawdown_percent, 'rules', public.entry_rules(s)
        )
      from public.ai_strategies s
      cross join lateral public.strategy_equity(s.id, p_is_paper, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    )
  );
end
$$;

-- What an order's own strategy (or, without one, the person) holds; the symbol and the book narrow it if given.
create or replace function public.own_positions(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_symbol text default null, p_is_paper boolean default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(public.position_json(p) order by p.entry_time, p.id), '[]') from public.positions p
  where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.strategy_id is not distinct from p_strategy_id
    and (p_symbol is null or p.symbol = p_symbol) and (p_is_paper is null or p.is_paper = p_is_paper)
$$;

-- Failures in a row in one book, as one number; an hour without one forgets them (`FAILURES_COUNT_FOR` in
-- `engine.risk.entry_limits`, which says so):
-- * orders that failed, every attempt, since the last one that worked, entry or exit;
-- * live entries that could not be protected, since the last live entry that stands: an exit says nothing of protection.
-- Not the server's own exits (named exit/...): it repeats them until they are made, and one that cannot be made would refuse
-- every entry. That they were made says nothing either, since they may only book what a stop did.
create or replace function public.consecutive_failures(p_user_id uuid, p_exchange text, p_is_paper boolean) returns bigint
language plpgsql stable set search_path = '' as $$
declare
  v_worked timestamptz;
  v_failed bigint;
  v_failed_at timestamptz;
  v_undone bigint;
  v_undone_at timestamptz;
begin
  select r.processed_at into v_worked from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.status = 'booked' and not starts_with(r.request_id, 'exit/')
      and not public.is_unprotected_entry(r) and exists (
        select from public.fills f
        where f.user_id = r.user_id and f.request_id = r.request_id and f.is_paper = p_is_paper
      )
    order by r.processed_at desc limit 1;
  select coalesce(sum(r.failures), 0), max(r.failed_at) into v_failed, v_failed_at from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and not starts_with(r.request_id, 'exit/')
      and r.failed_at > coalesce(v_worked, '-infinity') and coalesce(r.is_paper, p_is_paper) = p_is_paper;
  if not p_is_paper then
    select u.number, u.last_at into v_undone, v_undone_at
      from public.consecutive_undone_entries(p_user_id, p_exchange, null) u;
  end if;
  return case when greatest(v_failed_at, v_undone_at) > now() - interval '1 hour' then v_failed + coalesce(v_undone, 0) else 0 end;
end
$$;

-- The live entries of a person on an exchange, of all symbols or of one, that could not be protected, since the last one that
-- stands: how many in a row, and when the last of them ended. Entries follow each other as they were filled.
create or replace function public.consecutive_undone_entries(
  p_user_id uuid, p_exchange text, p_symbol text, out number bigint, out last_at timestamptz
) language plpgsql stable set search_path = '' as $$
declare
  v_standing bigint;
begin
  if not exists (
    select from public.fills f
    where f.user_id = p_user_id and f.exchange = p_exchange and f.kind = 'undo' and not f.is_paper
      and (p_symbol is null or f.symbol = p_symbol)
  ) and not exists (
    select from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.status = 'booked'
      and r.answer ->> 'action' = 'unprotected' and (p_symbol is null or r.symbol = p_symbol)
  ) and not exists (
    select from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.status = 'filled' and (p_symbol is null or r.symbol = p_symbol)
  ) then
    number := 0;
    return;
  end if;
  select f.id into v_standing
    from public.fills f join public.webhook_requests r on r.user_id = f.user_id and r.request_id = f.request_id
    where f.user_id = p_user_id and f.exchange = p_exchange and f.kind = 'open' and not f.is_paper
      and (p_symbol is null or f.symbol = p_symbol) and r.status = 'booked' and not public.is_unprotected_entry(r)
    order by f.id desc limit 1;
  select count(*), max(coalesce(u.created_at, r.processed_at)) into number, last_at
    from public.fills f
    join public.webhook_requests r on r.user_id = f.user_id and r.request_id = f.request_id
    left join public.fills u on u.user_id = f.user_id and u.request_id = f.request_id and u.kind = 'undo'
    where f.user_id = p_user_id and f.exchange = p_exchange and f.kind = 'open' and not f.is_paper
      and (p_symbol is null or f.symbol = p_symbol) and f.id > coalesce(v_standing, 0) and public.is_unprotected_entry(r);
end
$$;

-- Whether an entry was undone, or stands without the protection that was asked for. One that is neither protected nor undone yet
-- (filled) stands without it as well: a server that crashed, or a venue that was away, left it so.
create or replace function public.is_unprotected_entry(p_request public.webhook_requests) returns boolean
language sql stable set search_path = '' as $$
  select p_request.status = 'filled' or coalesce(p_request.answer ->> 'action' = 'unprotected', false) or exists (
    select from public.fills u
    where u.user_id = p_request.user_id and u.request_id = p_request.request_id and u.kind = 'undo'
  )
$$;

-- Why the last trade of one strategy (null: of the person) in a symbol ended, if it ended within p_within_s seconds: in one
-- book, or
-- (null) in both. A paper trade counts where it was liquidated or ended with its symbol.
create or replace function public.last_exit_reason(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid, p_within_s double precision, p_is_paper boolean default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(t.exit_reason) from (
    select distinct on (x.is_paper) x.is_paper, x.exit_reason, x.exit_time from public.trades x
    where x.user_id = p_user_id and lower(x.exchange) = lower(p_exchange) and x.symbol = p_symbol
      and x.strategy_id is not distinct from p_strategy_id and (p_is_paper is null or x.is_paper = p_is_paper)
    order by x.is_paper, x.exit_time desc
  ) t
  where (not t.is_paper or t.exit_reason in ('liquidated', 'delisted'))
    and t.exit_time > clock_timestamp() - make_interval(secs => p_within_s)
  order by t.exit_time desc limit 1
$$;

revoke execute on function
  public.set_kill_switch, public.shorten_reason, public.kill_switches, public.active_kill_switch, public.portfolio,
  public.own_positions, public.consecutive_failures, public.consecutive_undone_entries, public.is_unprotected_entry,
  public.last_exit_reason
  from public, anon, authenticated;
grant execute on function
  public.set_kill_switch, public.shorten_reason, public.kill_switches, public.active_kill_switch, public.portfolio,
  public.own_positions, public.consecutive_failures, public.consecutive_undone_entries, public.is_unprotected_entry,
  public.last_exit_reason
  to service_role;
