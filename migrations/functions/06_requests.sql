-- Requests of the webhook server, from their beginning to their end; booking one is in 08_booking.sql.

-- The id of the request that a body without an id repeats, null when there is none. p_derived_id is the id of a body with a
-- moment of its own. Without one, a request is repeated that is under way (also one that an older release began), or that ended
-- within ten minutes and was not answered, but none that came less than p_least_s ago and was not told to come back.
create or replace function public.repeated_request(
  p_user_id uuid, p_fingerprint text, p_derived_id text, p_least_s double precision
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb((
    select c.request_id from (
      select r.request_id, r.created_at, r.is_put_off from public.webhook_requests r
      where r.user_id = p_user_id and r.fingerprint = p_fingerprint and starts_with(r.request_id, 'body/')
        and not r.is_answered and r.processed_at > clock_timestamp() - interval '10 minutes'
      union all
      select r.request_id, r.created_at, r.is_put_off from public.webhook_requests r
      where r.user_id = p_user_id and r.fingerprint = p_fingerprint and r.status in ('received', 'submitted', 'filled')
      union all
      select r.request_id, r.created_at, true from public.webhook_requests r
      where r.user_id = p_user_id and r.request_id = p_derived_id and r.created_at > clock_timestamp() - interval '2 hours'
    ) c
    where c.is_put_off or p_derived_id is not null or c.created_at < clock_timestamp() - make_interval(secs => p_least_s)
    order by c.created_at desc limit 1
  ))
$$;

-- Claims the request and reads all that its execution needs, in one round trip. `standby`: another server executes. `held`:
-- what an earlier request of the same strategy and symbol did is not known yet; those named in p_ignore_unsettled do not count.
-- The row says `received`: nothing was sent to any venue, so that losing it in a crash of the database loses nothing, and its
-- commit need not wait for the disk.
create or replace function public.begin_execution(
  p_server text, p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb, p_ignore_unsettled jsonb, p_is_paper boolean
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
      and r.request_id is not null and not p_ignore_unsettled ? r.request_id;
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
      else public.sides_held_by_others(p_user_id, p_exchange, p_symbol, p_strategy_id) end,
    'portfolio', case when p_action <> 'CLOSE' then
      public.portfolio(p_user_id, p_exchange, p_strategy_id, v_is_paper, p_symbol) end,
    'positions', case when p_action = 'CLOSE' then public.own_positions(p_user_id, p_exchange, p_strategy_id, p_symbol) else '[]' end
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

-- The sides that others than this strategy (or person) hold, or may be about to hold, live in the symbol; what the person holds
-- outside Sparky is one of them.
create or replace function public.sides_held_by_others(
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
    union all
    select case when o.net > 0 then 'LONG' else 'SHORT' end
    from (select public.outside_quantity(p_user_id, p_exchange, p_symbol) as net) o where o.net <> 0
  )
  select coalesce(jsonb_agg(distinct sides.side), '[]') from sides
$$;

-- Before an order leaves for a venue: from here on its outcome may be unknown. The order may be the rest of an exit that has
-- waited.
-- False when this server may not send it.
create or replace function public.submit_request(p_server text, p_request_id text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  -- Whoever takes the lease over waits for the end of this transaction, and finds the request submitted.
  perform from public.leases l where l.name = 'webhook' for share;
  if not public.has_lease(p_server) then
    return to_jsonb(false);
  end if;
  update public.webhook_requests r set status = case r.status when 'received' then 'submitted' else r.status end, rest_waits = false
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  return to_jsonb(found);
end
$$;

-- Whether what a request did at its venue may not be in the books.
create or replace function public.is_unsettled(p_request public.webhook_requests) returns boolean
language sql stable set search_path = '' as $$
  select p_request.status in ('submitted', 'filled') and not p_request.rest_waits
$$;

-- An exit of which a part is booked waits with the rest, of which nothing was sent.
create or replace function public.mark_rest_waiting(p_request_id text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.webhook_requests r set rest_waits = true
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status = 'filled';
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

-- Notes what the sender of a request was told: its end (p_is_final), or to come back. Once it was told to come back, only the
-- answer to its repetition ends that.
create or replace function public.mark_answered(
  p_request_id text, p_user_id uuid, p_is_final boolean, p_is_repetition boolean
) returns jsonb
language sql security definer set search_path = '' as $$
  update public.webhook_requests r
    set is_put_off = r.is_put_off or not p_is_final,
        is_answered = r.is_answered or (p_is_final and (p_is_repetition or not r.is_put_off))
    where r.user_id = p_user_id and r.request_id = p_request_id;
  select 'true'::jsonb
$$;

create or replace function public.unfinished_requests() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(r) order by r.created_at), '[]')
  from public.webhook_requests r
  where r.status in ('received', 'submitted', 'filled') and r.request_id is not null
$$;

-- The fills of a request, in the order they were booked.
create or replace function public.request_fills(p_request_id text, p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(f) order by f.id), '[]') from public.fills f
  where f.user_id = p_user_id and f.request_id = p_request_id
$$;

revoke execute on function
  public.repeated_request, public.begin_execution, public.begin_request, public.sides_held_by_others, public.submit_request,
  public.is_unsettled, public.mark_rest_waiting, public.finish_request, public.mark_answered, public.unfinished_requests,
  public.request_fills
  from public, anon, authenticated;
grant execute on function
  public.repeated_request, public.begin_execution, public.begin_request, public.sides_held_by_others, public.submit_request,
  public.is_unsettled, public.mark_rest_waiting, public.finish_request, public.mark_answered, public.unfinished_requests,
  public.request_fills
  to service_role;
