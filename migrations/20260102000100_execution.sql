-- From signal to booked fill in few round trips, by one webhook server at a time, with a kill switch above all limits.

-- Who works on what, alone: `webhook` is the server that executes. A lease that is not renewed in time is anybody's.
create table if not exists public.leases (
  name text primary key,
  owner text not null,
  until timestamptz not null,
  taken_at timestamptz not null default clock_timestamp()
);

-- Entries are refused while a row covers them: everybody's (no user), one person's, or one strategy's. Exits never are.
create table if not exists public.kill_switches (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  strategy_id uuid references public.ai_strategies (id) on delete cascade,
  reason text,
  created_at timestamptz not null default clock_timestamp()
);
create unique index if not exists kill_switches_scope_key on public.kill_switches (
  (coalesce(user_id, '00000000-0000-0000-0000-000000000000'::uuid)),
  (coalesce(strategy_id, '00000000-0000-0000-0000-000000000000'::uuid))
);

create index if not exists signal_outbox_expiry_idx on public.signal_outbox (expires_at) where status = 'pending';
create index if not exists webhook_requests_unsettled_idx on public.webhook_requests (user_id, exchange, symbol)
  where status in ('submitted', 'filled');

do $$
declare
  v_table text;
begin
  foreach v_table in array array['leases', 'kill_switches'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from public, anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    execute format('drop policy if exists sparky_service on public.%I', v_table);
    execute format('create policy sparky_service on public.%I to service_role using (true) with check (true)', v_table);
  end loop;
end
$$;

-- Protective orders at a venue are found and cancelled by these ids. An entry whose protection failed is undone.
alter table public.positions
  add column if not exists stop_loss_client_order_id text,
  add column if not exists take_profit_client_order_id text;
alter table public.fills drop constraint if exists fills_kind_check;
alter table public.fills add constraint fills_kind_check check (kind in ('open', 'close', 'undo'));

-- Takes, keeps or takes over; true while it is the owner's.
create or replace function public.hold_lease(p_name text, p_owner text, p_ttl_s double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  insert into public.leases as l (name, owner, until) values (p_name, p_owner, v_now + make_interval(secs => p_ttl_s))
    on conflict (name) do update
      set owner = excluded.owner, until = excluded.until,
          taken_at = case when l.owner = excluded.owner then l.taken_at else v_now end
      where l.owner = excluded.owner or l.until <= v_now;
  return to_jsonb(found);
end
$$;

create or replace function public.release_lease(p_name text, p_owner text) returns jsonb
language sql security definer set search_path = '' as $$
  delete from public.leases l where l.name = p_name and l.owner = p_owner;
  select 'true'::jsonb
$$;

create or replace function public.has_lease(p_owner text) returns boolean
language sql stable set search_path = '' as $$
  select p_owner is null or exists (
    select from public.leases l where l.name = 'webhook' and l.owner = p_owner and l.until > clock_timestamp()
  )
$$;

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

create or replace function public.kill_switches() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(k) || jsonb_build_object('email', u.email, 'strategy_name', s.name) order by k.created_at), '[]')
  from public.kill_switches k
  left join auth.users u on u.id = k.user_id
  left join public.ai_strategies s on s.id = k.strategy_id
$$;

-- The widest switch that covers an entry; null when none does.
create or replace function public.killed_by(p_user_id uuid, p_strategy_id uuid) returns text
language sql stable set search_path = '' as $$
  select case when k.strategy_id is not null then 'strategy' when k.user_id is not null then 'user' else 'global' end
  from public.kill_switches k
  where (k.user_id is null and k.strategy_id is null) or k.user_id = p_user_id or k.strategy_id = p_strategy_id
  order by (k.user_id is null and k.strategy_id is null) desc, k.strategy_id nulls first limit 1
$$;

-- What an order's own strategy (or, without one, the person) holds; the symbol and the book narrow it if given.
create or replace function public.own_positions(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_symbol text default null, p_is_paper boolean default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(public.position_json(p) order by p.entry_time, p.id), '[]') from public.positions p
  where p.user_id = p_user_id and p.exchange = p_exchange and p.strategy_id is not distinct from p_strategy_id
    and (p_symbol is null or p.symbol = p_symbol) and (p_is_paper is null or p.is_paper = p_is_paper)
$$;

-- Everything the risk checks need, in one view. What only a limit would look at is read only if there is that limit.
create or replace function public.portfolio(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_is_paper boolean
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_day timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
  v_week timestamptz := date_trunc('week', now() at time zone 'UTC') at time zone 'UTC';
  v_settings public.trade_settings_exchange;
  v_today numeric;
  v_week_pnl numeric;
  v_entries bigint;
  v_failures bigint;
begin
  select * into v_settings from public.trade_settings_exchange s
    where s.user_id = p_user_id and s.exchange = p_exchange limit 1;
  if coalesce(v_settings.max_daily_loss_usd, 0) <> 0 or coalesce(v_settings.max_loss_per_week_usd, 0) <> 0 then
    select coalesce(sum(t.pnl_usd) filter (where t.exit_time >= v_day), 0), coalesce(sum(t.pnl_usd), 0)
      into v_today, v_week_pnl from public.trades t
      where t.user_id = p_user_id and t.exchange = p_exchange and t.is_paper = p_is_paper and t.exit_time >= v_week;
  end if;
  if coalesce(v_settings.max_trades_per_week, 0) <> 0 then
    select count(*) into v_entries from ( -- a position closed in parts is one entry
      select t.entry_time, t.symbol, t.strategy_id from public.trades t
        where t.user_id = p_user_id and t.exchange = p_exchange and t.is_paper = p_is_paper and t.entry_time >= v_week
      union
      select p.entry_time, p.symbol, p.strategy_id from public.positions p
        where p.user_id = p_user_id and p.exchange = p_exchange and p.is_paper = p_is_paper and p.entry_time >= v_week
    ) entries;
  end if;
  if coalesce(v_settings.max_consecutive_failures, 0) <> 0 then
    v_failures := coalesce(public.consecutive_failures(p_user_id, p_exchange), 0);
  end if;
  return jsonb_build_object(
    'now', clock_timestamp(),
    'killed_by', public.killed_by(p_user_id, p_strategy_id),
    'settings', case when v_settings.id is not null then to_jsonb(v_settings) end,
    'realized_pnl_today_usd', v_today,
    'realized_pnl_week_usd', v_week_pnl,
    'trades_this_week', v_entries,
    'consecutive_failures', v_failures,
    'open_position_count', (
      select count(*) from public.positions p
      where p.user_id = p_user_id and p.exchange = p_exchange and p.is_paper = p_is_paper
    ),
    'open_positions', public.own_positions(p_user_id, p_exchange, p_strategy_id, null, p_is_paper),
    'strategy', (
      select to_jsonb(s) - array['custom_prompt', 'paused_traceback']
        || jsonb_build_object('equity_usd', f.equity_usd, 'drawdown_percent', f.drawdown_percent)
      from public.ai_strategies s
      cross join lateral public.strategy_figures(s.id, p_is_paper, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    )
  );
end
$$;

-- Claims the request and reads all that its execution needs, in one round trip. `standby`: another server executes.
-- The row says `received`: nothing was sent to any venue, so that losing it in a crash of the database loses nothing,
-- and its commit need not wait for the disk.
create or replace function public.begin_execution(
  p_server text, p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb, p_is_paper boolean
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_began jsonb;
  v_is_paper boolean;
  v_request public.webhook_requests;
  v_unsettled jsonb;
begin
  if not public.has_lease(p_server) then
    return jsonb_build_object('state', 'standby');
  end if;
  select jsonb_agg(to_jsonb(r) order by r.created_at) into v_unsettled from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.strategy_id is not distinct from p_strategy_id and r.status in ('submitted', 'filled')
      and r.request_id is not null;
  if v_unsettled is not null and not exists (
    select from jsonb_array_elements(v_unsettled) u where u.value ->> 'request_id' = p_request_id
  ) and not exists ( -- what was answered is answered again
    select from public.webhook_requests r where r.user_id = p_user_id and r.request_id = p_request_id
      and r.status not in ('received', 'submitted', 'filled')
  ) then
    return jsonb_build_object('state', 'held', 'unsettled', v_unsettled);
  end if;
  perform set_config('synchronous_commit', 'off', true);
  v_began := public.begin_request(
    p_request_id, p_user_id, p_strategy_id, p_exchange, p_symbol, p_action, p_fingerprint, p_payload
  );
  if v_began ->> 'state' not in ('new', 'busy') then
    return v_began;
  end if;
  select s.is_paper_trading into v_is_paper from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id;
  v_is_paper := coalesce(v_is_paper, p_is_paper);
  select * into v_request from public.webhook_requests r where r.user_id = p_user_id and r.request_id = p_request_id;
  return v_began || jsonb_build_object(
    'is_paper', v_is_paper,
    'is_sent', v_request.status <> 'received',
    'other_sides', ( -- what others of the account hold live in the symbol: the venue knows only the net
      select coalesce(jsonb_agg(distinct public.position_side(p.side)), '[]') from public.positions p
      where p.user_id = p_user_id and p.exchange = p_exchange and p.symbol = p_symbol and not p.is_paper
        and p.strategy_id is distinct from p_strategy_id
    ),
    'portfolio', case when p_action <> 'CLOSE' then public.portfolio(p_user_id, p_exchange, p_strategy_id, v_is_paper) end,
    'positions', case when p_action = 'CLOSE' then public.own_positions(p_user_id, p_exchange, p_strategy_id, p_symbol) else '[]' end
  );
end
$$;

-- Before an order leaves for a venue: from here on its outcome may be unknown. False when this server may not send it.
create or replace function public.submit_request(p_server text, p_request_id text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if not public.has_lease(p_server) then
    return to_jsonb(false);
  end if;
  update public.webhook_requests r set status = case r.status when 'received' then 'submitted' else r.status end
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  return to_jsonb(found);
end
$$;

-- Ends a booked entry: its protective orders are at the venue. The answer is given again on every repetition.
create or replace function public.book_protection(
  p_request_id text, p_user_id uuid, p_position_id uuid, p_protection jsonb, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.positions p
    set stop_loss_price = coalesce((p_protection ->> 'stop_loss_price')::numeric, p.stop_loss_price),
        take_profit_price = coalesce((p_protection ->> 'take_profit_price')::numeric, p.take_profit_price),
        stop_loss_order_id = p_protection ->> 'stop_loss_order_id',
        take_profit_order_id = p_protection ->> 'take_profit_order_id',
        stop_loss_client_order_id = p_protection ->> 'stop_loss_client_order_id',
        take_profit_client_order_id = p_protection ->> 'take_profit_client_order_id'
    where p.id = p_position_id and p.user_id = p_user_id;
  if p_answer is not null and p_answer <> 'null'::jsonb then
    update public.webhook_requests r
      set status = 'booked', answer = p_answer, answer_status = p_status, error_message = null, processed_at = clock_timestamp()
      where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  end if;
  return to_jsonb(true);
end
$$;

-- As settle_signal, for many; the ids that were still the owner's. A lost settlement is a repeated delivery, which the
-- receiver answers from its memory, so the commit need not wait for the disk.
create or replace function public.settle_signals(p_owner text, p_settlements jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_each jsonb;
  v_settled jsonb := '[]';
begin
  perform set_config('synchronous_commit', 'off', true);
  for v_each in select s.value from jsonb_array_elements(p_settlements) s order by s.value ->> 'signal_id' loop
    if public.settle_signal(
      (v_each ->> 'signal_id')::uuid, p_owner, v_each ->> 'outcome', (v_each ->> 'status')::integer, v_each ->> 'reason',
      (v_each ->> 'retry_in_s')::double precision
    ) = 'true'::jsonb then
      v_settled := v_settled || (v_each -> 'signal_id');
    end if;
  end loop;
  return v_settled;
end
$$;

-- As before, and an attempt whose dispatcher never said how it ended is kept as well. The oldest are found by walking the
-- index in order and stopping early; without statistics (a young table) the planner would rather sort all that is pending.
create or replace function public.claim_signals(p_owner text, p_limit integer, p_lease_s double precision) returns jsonb
language plpgsql security definer set search_path = '' set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off as $$
declare
  v_now timestamptz := clock_timestamp();
  v_claimed jsonb;
begin
  perform set_config('synchronous_commit', 'off', true);
  perform public.expire_signals(v_now);
  with due as (
    select o.id, o.attempts, o.lease_owner, o.leased_at from public.signal_outbox o
    where o.status = 'pending' and o.next_attempt_at <= v_now and o.expires_at > v_now
      and (o.lease_until is null or o.lease_until <= v_now)
      and not exists ( -- order is kept per (strategy, symbol): a younger signal waits for the older one's end
        select from public.signal_outbox older
        where older.status = 'pending' and older.strategy_id = o.strategy_id and older.symbol = o.symbol and older.seq < o.seq
      )
    order by o.seq
    limit greatest(p_limit, 0)
    for update of o skip locked
  ), lost as (
    insert into public.signal_attempts (signal_id, attempt, owner, outcome, reason, started_at, ended_at)
      select d.id, d.attempts, d.lease_owner, 'retry', 'its dispatcher never said how it ended', d.leased_at, v_now
      from due d where d.lease_owner is not null
  ), claimed as (
    update public.signal_outbox o
    set lease_owner = p_owner, leased_at = v_now, lease_until = v_now + make_interval(secs => p_lease_s),
        attempts = o.attempts + 1
    from due where due.id = o.id
    returning o.*
  )
  select coalesce(jsonb_agg(to_jsonb(c) order by c.seq), '[]') into v_claimed from claimed c;
  return v_claimed;
end
$$;

-- The leases of owners whose name begins so end now: they are dead, and a successor goes on. How many those were.
create or replace function public.release_signals(p_owners text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  update public.signal_outbox o set lease_until = clock_timestamp()
    where o.status = 'pending' and starts_with(o.lease_owner, p_owners) and o.lease_until > clock_timestamp();
  get diagnostics v_count = row_count;
  return to_jsonb(v_count);
end
$$;

-- People's hand on the outbox. A retry makes an ended signal pending again for `p_ttl_s`; a delivered one is not sent again.
create or replace function public.retry_signal(p_signal_id uuid, p_ttl_s double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_signal public.signal_outbox;
  v_expires_at timestamptz := clock_timestamp() + make_interval(secs => p_ttl_s);
begin
  select * into v_signal from public.signal_outbox o where o.id = p_signal_id for update;
  if not found then
    raise exception 'there is no signal %', p_signal_id using errcode = 'SK404';
  elsif v_signal.status = 'delivered' then
    raise exception 'the signal was delivered; sending it again would only repeat its first answer' using errcode = 'SK409';
  elsif exists (
    select from public.webhook_requests r where r.user_id = v_signal.user_id and r.request_id = v_signal.id::text
      and not (r.status = 'failed' and r.answer_status >= 500)
  ) then
    raise exception 'the webhook server has answered this signal for good' using errcode = 'SK409';
  end if;
  update public.signal_outbox o
    set status = 'pending', next_attempt_at = clock_timestamp(), settled_at = null, expires_at = v_expires_at,
        payload = o.payload || jsonb_build_object('expires_at', to_char(v_expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    where o.id = p_signal_id and (o.lease_until is null or o.lease_until <= clock_timestamp())
    returning * into v_signal;
  if not found then
    raise exception 'the signal is being sent this moment' using errcode = 'SK409';
  end if;
  return to_jsonb(v_signal);
end
$$;

create or replace function public.drop_signal(p_signal_id uuid, p_reason text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_signal public.signal_outbox;
  v_now timestamptz := clock_timestamp();
begin
  select * into v_signal from public.signal_outbox o where o.id = p_signal_id for update;
  if not found then
    raise exception 'there is no signal %', p_signal_id using errcode = 'SK404';
  elsif v_signal.status <> 'pending' then
    raise exception 'the signal has ended: it is %', v_signal.status using errcode = 'SK409';
  elsif v_signal.lease_until > v_now then
    raise exception 'the signal is being sent this moment' using errcode = 'SK409';
  end if;
  update public.signal_outbox o set status = 'dead', settled_at = v_now, last_reason = left(p_reason, 500)
    where o.id = p_signal_id;
  insert into public.signal_attempts (signal_id, attempt, outcome, reason)
    values (p_signal_id, v_signal.attempts, 'dead', left(p_reason, 500));
  return to_jsonb(true);
end
$$;

create or replace function public.signal(p_signal_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(o) || jsonb_build_object('strategy_name', s.name, 'history', coalesce((
    select jsonb_agg(to_jsonb(a) order by a.id) from public.signal_attempts a where a.signal_id = o.id
  ), '[]'))
  from public.signal_outbox o join public.ai_strategies s on s.id = o.strategy_id where o.id = p_signal_id
$$;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = any (array[
      'hold_lease', 'release_lease', 'has_lease', 'set_kill_switch', 'kill_switches', 'killed_by', 'own_positions',
      'portfolio', 'begin_execution', 'submit_request', 'book_protection', 'settle_signals', 'release_signals', 'retry_signal', 'drop_signal', 'signal'
    ])
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;
