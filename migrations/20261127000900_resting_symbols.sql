-- What else refuses an entry: that earlier ones could not be protected, and that the books and the venue disagree about its symbol.

-- The book that an entry is for; null for exits, and for what an older release began. An exit's fills tell its book.
alter table public.webhook_requests add column if not exists is_paper boolean;

create index if not exists fills_live_entries_idx on public.fills (user_id, exchange, id) where kind = 'open' and not is_paper;
create index if not exists fills_undone_idx on public.fills (user_id, exchange, symbol) where kind = 'undo' and not is_paper;
create index if not exists webhook_requests_unprotected_idx on public.webhook_requests (user_id, exchange, symbol)
  where status = 'booked' and answer ->> 'action' = 'unprotected';

-- Whether an entry was undone, or stands without the protection that was asked for. One that is neither protected nor undone yet
-- (filled) stands without it as well: a server that crashed, or a venue that was away, left it so.
create or replace function public.was_unprotected(p_request public.webhook_requests) returns boolean
language sql stable set search_path = '' as $$
  select p_request.status = 'filled' or coalesce(p_request.answer ->> 'action' = 'unprotected', false) or exists (
    select from public.fills u
    where u.user_id = p_request.user_id and u.request_id = p_request.request_id and u.kind = 'undo'
  )
$$;

-- The live entries of a person on an exchange, of all symbols or of one, that could not be protected, since the last one that
-- stands: how many in a row, and when the last of them ended. Entries follow each other as they were filled.
create or replace function public.undone_in_a_row(
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
      and (p_symbol is null or f.symbol = p_symbol) and r.status = 'booked' and not public.was_unprotected(r)
    order by f.id desc limit 1;
  select count(*), max(coalesce(u.created_at, r.processed_at)) into number, last_at
    from public.fills f
    join public.webhook_requests r on r.user_id = f.user_id and r.request_id = f.request_id
    left join public.fills u on u.user_id = f.user_id and u.request_id = f.request_id and u.kind = 'undo'
    where f.user_id = p_user_id and f.exchange = p_exchange and f.kind = 'open' and not f.is_paper
      and (p_symbol is null or f.symbol = p_symbol) and f.id > coalesce(v_standing, 0) and public.was_unprotected(r);
end
$$;

do $$
begin
  drop function if exists public.consecutive_failures(uuid, text);
  drop function if exists public.portfolio(uuid, text, uuid, boolean);
  drop function if exists public.begin_request(text, uuid, uuid, text, text, text, text, jsonb);
end
$$;

-- Failures in a row in one book, as one number; an hour without one forgets them:
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
      and not public.was_unprotected(r) and exists (
        select from public.fills f
        where f.user_id = r.user_id and f.request_id = r.request_id and f.is_paper = p_is_paper
      )
    order by r.processed_at desc limit 1;
  select coalesce(sum(r.failures), 0), max(r.failed_at) into v_failed, v_failed_at from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and not starts_with(r.request_id, 'exit/')
      and r.failed_at > coalesce(v_worked, '-infinity') and coalesce(r.is_paper, p_is_paper) = p_is_paper;
  if not p_is_paper then
    select u.number, u.last_at into v_undone, v_undone_at from public.undone_in_a_row(p_user_id, p_exchange, null) u;
  end if;
  return case when greatest(v_failed_at, v_undone_at) > now() - interval '1 hour' then v_failed + coalesce(v_undone, 0) else 0 end;
end
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
      min(nullif(s.max_position_size_usd, 0)) as max_position_size_usd
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
    select u.number, u.last_at into v_undone, v_undone_at from public.undone_in_a_row(p_user_id, p_exchange, p_symbol) u;
  end if;
  return jsonb_build_object(
    'now', clock_timestamp(),
    'killed_by', public.killed_by(p_user_id, p_strategy_id),
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
      cross join lateral public.strategy_figures(s.id, p_is_paper, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    )
  );
end
$$;

-- new: execute it; busy: another one is executing it; done: give the stored answer; conflict: the id was used for other content.
-- A request that failed with a 5xx and booked nothing had no effect, so its sender's retry is new again.
create or replace function public.begin_request(
  p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb, p_is_paper boolean default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_request public.webhook_requests;
begin
  insert into public.webhook_requests (
    request_id, user_id, strategy_id, exchange, symbol, action, fingerprint, payload, is_paper, status, created_at
  ) values (
    p_request_id, p_user_id, p_strategy_id, p_exchange, p_symbol, p_action, p_fingerprint, p_payload, p_is_paper,
    'received', clock_timestamp()
  ) on conflict (user_id, request_id) do nothing;
  if found then
    return jsonb_build_object('state', 'new');
  end if;
  select * into strict v_request from public.webhook_requests r
    where r.user_id = p_user_id and r.request_id = p_request_id for update;
  if v_request.fingerprint is distinct from p_fingerprint then
    return jsonb_build_object('state', 'conflict');
  end if;
  if v_request.status = 'failed' and v_request.answer_status >= 500 and not exists (
    select from public.fills f where f.user_id = p_user_id and f.request_id = p_request_id
  ) then
    update public.webhook_requests
      set status = 'received', answer = null, answer_status = null, processed_at = null, attempts = attempts + 1,
          is_paper = coalesce(p_is_paper, is_paper)
      where id = v_request.id;
    return jsonb_build_object('state', 'new');
  end if;
  if v_request.status in ('received', 'submitted', 'filled') then
    return jsonb_build_object('state', 'busy');
  end if;
  return jsonb_build_object('state', 'done', 'status', v_request.answer_status, 'answer', v_request.answer);
end
$$;

-- Claims the request and reads all that its execution needs, in one round trip. `standby`: another server executes. `held`:
-- what an earlier request of the same strategy and symbol did is not known yet; those in p_past do not count.
-- The row says `received`: nothing was sent to any venue, so that losing it in a crash of the database loses nothing,
-- and its commit need not wait for the disk.
create or replace function public.begin_execution(
  p_server text, p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb, p_is_paper boolean, p_past jsonb default '[]'
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_began jsonb;
  v_is_paper boolean;
  v_is_sent boolean := false;
  v_unsettled jsonb;
begin
  if not public.has_lease(p_server) then
    return jsonb_build_object('state', 'standby');
  end if;
  select jsonb_agg(to_jsonb(r) order by r.created_at) into v_unsettled from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.strategy_id is not distinct from p_strategy_id and r.status in ('submitted', 'filled')
      and r.request_id is not null and not p_past ? r.request_id;
  if v_unsettled is not null and not exists (
    select from jsonb_array_elements(v_unsettled) u where u.value ->> 'request_id' = p_request_id
  ) and not exists ( -- what was answered is answered again
    select from public.webhook_requests r where r.user_id = p_user_id and r.request_id = p_request_id
      and r.status not in ('received', 'submitted', 'filled')
  ) then
    return jsonb_build_object('state', 'held', 'unsettled', v_unsettled);
  end if;
  perform set_config('synchronous_commit', 'off', true);
  -- What was decided on paper stays on paper, though its strategy has gone live meanwhile.
  select s.is_paper_trading or exists (
    select from public.signal_outbox o
    where o.id = case when p_request_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_request_id::uuid end
      and o.strategy_id = s.id and o.is_paper
  ) into v_is_paper from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id;
  v_is_paper := coalesce(v_is_paper, p_is_paper);
  v_began := public.begin_request(
    p_request_id, p_user_id, p_strategy_id, p_exchange, p_symbol, p_action, p_fingerprint, p_payload,
    case when p_action <> 'CLOSE' then v_is_paper end
  );
  if v_began ->> 'state' not in ('new', 'busy') then
    return v_began;
  end if;
  if v_began ->> 'state' = 'busy' then
    select r.status <> 'received' into v_is_sent from public.webhook_requests r
      where r.user_id = p_user_id and r.request_id = p_request_id;
  end if;
  return v_began || jsonb_build_object(
    'is_paper', v_is_paper,
    'is_sent', v_is_sent,
    'other_sides', case when v_is_paper and p_action <> 'CLOSE' then '[]'
      else public.other_sides(p_user_id, p_exchange, p_symbol, p_strategy_id) end,
    'portfolio', case when p_action <> 'CLOSE' then
      public.portfolio(p_user_id, p_exchange, p_strategy_id, v_is_paper, p_symbol) end,
    'positions', case when p_action = 'CLOSE' then public.own_positions(p_user_id, p_exchange, p_strategy_id, p_symbol) else '[]' end
  );
end
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.was_unprotected(public.webhook_requests)', 'public.undone_in_a_row(uuid, text, text)',
    'public.consecutive_failures(uuid, text, boolean)', 'public.portfolio(uuid, text, uuid, boolean, text)',
    'public.begin_request(text, uuid, uuid, text, text, text, text, jsonb, boolean)',
    'public.begin_execution(text, text, uuid, uuid, text, text, text, text, jsonb, boolean, jsonb)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
