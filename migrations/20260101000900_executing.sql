-- The webhook server's side of a request: one server executes at a time, each request once, and what was answered is
-- answered again.

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

-- new: execute it; busy: another one is executing it; done: give the stored answer; conflict: the id was used for other content.
-- A request that failed with a 5xx and booked nothing had no effect, so its sender's retry is new again.
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
  if v_request.status = 'failed' and v_request.answer_status >= 500 and not exists (
    select from public.fills f where f.user_id = p_user_id and f.request_id = p_request_id
  ) then
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

create or replace function public.other_sides(
  p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid
) returns jsonb
language sql stable security definer set search_path = '' as $$
  with sides as (
    select public.position_side(p.side) as side from public.positions p
    where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
      and p.strategy_id is distinct from p_strategy_id
    union all
    select both_sides.side from public.ai_strategies s cross join (values ('LONG'), ('SHORT')) as both_sides (side)
    where s.user_id = p_user_id and s.exchange = p_exchange and not s.is_paper_trading and s.status = 'running'
      and p_symbol = any (s.target_assets) and s.id is distinct from p_strategy_id
    union all
    select both_sides.side from public.webhook_requests r cross join (values ('LONG'), ('SHORT')) as both_sides (side)
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.strategy_id is distinct from p_strategy_id and r.status in ('submitted', 'filled')
  )
  select coalesce(jsonb_agg(distinct sides.side), '[]') from sides
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
  v_began := public.begin_request(
    p_request_id, p_user_id, p_strategy_id, p_exchange, p_symbol, p_action, p_fingerprint, p_payload
  );
  if v_began ->> 'state' not in ('new', 'busy') then
    return v_began;
  end if;
  if v_began ->> 'state' = 'busy' then
    select r.status <> 'received' into v_is_sent from public.webhook_requests r
      where r.user_id = p_user_id and r.request_id = p_request_id;
  end if;
  -- What was decided on paper stays on paper, though its strategy has gone live meanwhile.
  select s.is_paper_trading or exists (
    select from public.signal_outbox o
    where o.id = case when p_request_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_request_id::uuid end
      and o.strategy_id = s.id and o.is_paper
  ) into v_is_paper from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id;
  v_is_paper := coalesce(v_is_paper, p_is_paper);
  return v_began || jsonb_build_object(
    'is_paper', v_is_paper,
    'is_sent', v_is_sent,
    'other_sides', case when v_is_paper and p_action <> 'CLOSE' then '[]'
      else public.other_sides(p_user_id, p_exchange, p_symbol, p_strategy_id) end,
    'portfolio', case when p_action <> 'CLOSE' then public.portfolio(p_user_id, p_exchange, p_strategy_id, v_is_paper) end,
    'positions', case when p_action = 'CLOSE' then public.own_positions(p_user_id, p_exchange, p_strategy_id, p_symbol) else '[]' end
  );
end
$$;

-- Before an order leaves for a venue: from here on its outcome may be unknown. False when this server may not send it.
create or replace function public.submit_request(p_server text, p_request_id text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  -- Whoever takes the lease over waits for the end of this transaction, and finds the request submitted.
  perform from public.leases l where l.name = 'webhook' for share;
  if not public.has_lease(p_server) then
    return to_jsonb(false);
  end if;
  update public.webhook_requests r set status = case r.status when 'received' then 'submitted' else r.status end
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  return to_jsonb(found);
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
  select coalesce(jsonb_agg(to_jsonb(r) order by r.created_at), '[]')
  from public.webhook_requests r
  where r.status in ('received', 'submitted', 'filled') and r.request_id is not null
$$;
