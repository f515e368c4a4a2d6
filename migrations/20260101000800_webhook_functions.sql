-- The webhook server's side: who signs, has this been asked before, and what risk needs to know.

-- Null when nobody, or more than one person, has this secret: an ambiguous proof proves nothing.
create or replace function public.webhook_users(p_secret_sha256 text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select case count(distinct c.user_id) when 1 then to_jsonb(min(c.user_id::text)) end
  from public.bot_credentials c
  where c.exchange = 'webhook' and c.webhook_secret <> '' and c.webhook_secret_sha256 = lower(p_secret_sha256)
$$;

create or replace function public.webhook_secrets(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(c.webhook_secret order by c.updated_at desc, c.id), '[]') from public.bot_credentials c
  where c.user_id = p_user_id and c.exchange = 'webhook' and c.webhook_secret <> ''
$$;

create or replace function public.venue_credentials(p_user_id uuid, p_exchange text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'environment', c.environment,
    'api_key', c.api_key,
    'api_secret', c.api_secret,
    'passphrase', c.passphrase,
    'user_address', c.extra_metadata ->> 'user_address',
    'signer_address', c.extra_metadata ->> 'signer_address',
    'private_key', c.extra_metadata ->> 'private_key'
  )
  from public.bot_credentials c
  where c.user_id = p_user_id and lower(c.exchange) = lower(p_exchange)
  order by (c.environment = 'production') desc, c.updated_at desc, c.id limit 1
$$;

-- new: execute it; busy: another one is executing it; done: give the stored answer; conflict: the id was used for other content.
-- A request that failed with a 5xx had no effect, so its sender's retry is new again.
create or replace function public.begin_request(
  p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_request public.webhook_requests;
begin
  insert into public.webhook_requests (
    request_id, user_id, strategy_id, exchange, symbol, action, fingerprint, payload, status, created_at
  ) values (
    p_request_id, p_user_id, p_strategy_id, p_exchange, p_symbol, p_action, p_fingerprint, p_payload, 'received',
    clock_timestamp()
  ) on conflict (user_id, request_id) do nothing;
  if found then
    return jsonb_build_object('state', 'new');
  end if;
  select * into strict v_request from public.webhook_requests r
    where r.user_id = p_user_id and r.request_id = p_request_id for update;
  if v_request.fingerprint is distinct from p_fingerprint then
    return jsonb_build_object('state', 'conflict');
  end if;
  if v_request.status = 'failed' and v_request.answer_status >= 500 then
    update public.webhook_requests
      set status = 'received', answer = null, answer_status = null, processed_at = null, attempts = attempts + 1
      where id = v_request.id;
    return jsonb_build_object('state', 'new');
  end if;
  if v_request.status in ('received', 'submitted', 'filled') then
    return jsonb_build_object('state', 'busy');
  end if;
  return jsonb_build_object('state', 'done', 'status', v_request.answer_status, 'answer', v_request.answer);
end
$$;

-- Ends a request that booked nothing. False if it has ended already (a booked one is never overwritten).
create or replace function public.finish_request(
  p_request_id text, p_user_id uuid, p_state text, p_status integer, p_answer jsonb, p_error text default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if p_state not in ('refused', 'failed', 'skipped') then
    raise exception 'a request cannot end as %', p_state using errcode = 'SK400';
  end if;
  update public.webhook_requests r
    set status = p_state, answer_status = p_status, answer = p_answer, error_message = left(p_error, 1000),
        processed_at = clock_timestamp(),
        failures = r.failures + case p_state when 'failed' then 1 else 0 end,
        failed_at = case p_state when 'failed' then clock_timestamp() else r.failed_at end
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  return to_jsonb(found);
end
$$;

create or replace function public.unfinished_requests() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object('booked_kinds', coalesce((
    select jsonb_agg(f.kind order by f.id) from public.fills f where f.user_id = r.user_id and f.request_id = r.request_id
  ), '[]')) order by r.created_at), '[]')
  from public.webhook_requests r
  where r.status in ('received', 'submitted', 'filled') and r.request_id is not null
$$;

-- Failures since the last booked request, counting every attempt; an hour without one forgets them.
create or replace function public.consecutive_failures(p_user_id uuid, p_exchange text) returns bigint
language sql stable set search_path = '' as $$
  with failed as (
    select r.failures, r.failed_at from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.failed_at > coalesce((
      select max(b.processed_at) from public.webhook_requests b
      where b.user_id = p_user_id and b.exchange = p_exchange and b.status = 'booked'
    ), '-infinity')
  )
  select case when max(failed_at) > now() - interval '1 hour' then sum(failures) else 0 end from failed
$$;

-- Everything the risk checks need, in one view. Days start at 00:00 UTC, weeks on Monday.
create or replace function public.portfolio(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_is_paper boolean
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_day timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
  v_week timestamptz := date_trunc('week', now() at time zone 'UTC') at time zone 'UTC';
  v_realized record;
  v_entries bigint;
begin
  select coalesce(sum(t.pnl_usd) filter (where t.exit_time >= v_day), 0) as today, coalesce(sum(t.pnl_usd), 0) as week
    into v_realized from public.trades t
    where t.user_id = p_user_id and t.exchange = p_exchange and t.is_paper = p_is_paper and t.exit_time >= v_week;
  select count(*) into v_entries from ( -- a position closed in parts is one entry
    select t.entry_time, t.symbol, t.strategy_id from public.trades t
      where t.user_id = p_user_id and t.exchange = p_exchange and t.is_paper = p_is_paper and t.entry_time >= v_week
    union
    select p.entry_time, p.symbol, p.strategy_id from public.positions p
      where p.user_id = p_user_id and p.exchange = p_exchange and p.is_paper = p_is_paper and p.entry_time >= v_week
  ) entries;
  return jsonb_build_object(
    'now', clock_timestamp(),
    'settings', (
      select to_jsonb(s) from public.trade_settings_exchange s where s.user_id = p_user_id and s.exchange = p_exchange limit 1
    ),
    'realized_pnl_today_usd', v_realized.today,
    'realized_pnl_week_usd', v_realized.week,
    'trades_this_week', v_entries,
    'consecutive_failures', coalesce(public.consecutive_failures(p_user_id, p_exchange), 0),
    'open_positions', (
      select coalesce(jsonb_agg(public.position_json(p) order by p.entry_time, p.id), '[]') from public.positions p
      where p.user_id = p_user_id and p.exchange = p_exchange and p.is_paper = p_is_paper
    ),
    'strategy', (
      select to_jsonb(s) || jsonb_build_object('equity_usd', f.equity_usd, 'drawdown_percent', f.drawdown_percent)
      from public.ai_strategies s
      cross join lateral public.strategy_figures(s.id, p_is_paper, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    )
  );
end
$$;
