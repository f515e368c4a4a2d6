-- The dispatcher's side of the outbox (claim with a lease, settle, count), and what people do with a signal in it.

-- Leases due signals to a dispatcher of the present engine.
create or replace function public.claim_signals(
  p_owner text, p_limit integer, p_lease_s double precision, p_engine uuid default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_claimed jsonb := public.claim_signals_unchecked(p_owner, p_limit, p_lease_s);
begin
  perform public.check_engine(p_engine);
  return v_claimed;
end
$$;

-- An attempt whose dispatcher never said how it ended is kept as well. The oldest are found by walking the index in order
-- and stopping early; without statistics (a young table) the planner would rather sort all that is pending.
create or replace function public.claim_signals_unchecked(p_owner text, p_limit integer, p_lease_s double precision) returns jsonb
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

-- A leased signal is left to its dispatcher until the lease ends: it may be delivering it this moment.
create or replace function public.expire_signals(p_now timestamptz) returns void
language sql set search_path = '' as $$
  with overdue as (
    select o.id from public.signal_outbox o
    where o.status = 'pending' and o.expires_at <= p_now and (o.lease_until is null or o.lease_until <= p_now)
    for update of o skip locked
  ), expired as (
    update public.signal_outbox o
    set status = 'expired', settled_at = p_now, last_reason = 'expired before it was delivered'
    from overdue where overdue.id = o.id
    returning o.id, o.attempts
  )
  insert into public.signal_attempts (signal_id, attempt, outcome, reason)
  select e.id, e.attempts, 'expired', 'expired before it was delivered' from expired e
$$;

-- The ids of those whose lease was still the owner's. A retry that would come after the signal's end is its end. A lost
-- settlement is a repeated delivery, which the receiver answers from its memory, so the commit need not wait for the disk.
create or replace function public.settle_signals(p_owner text, p_settlements jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_settled jsonb;
begin
  if exists (
    select from jsonb_to_recordset(p_settlements) as s(outcome text)
    where s.outcome is null or s.outcome not in ('delivered', 'refused', 'expired', 'dead', 'retry')
  ) then
    raise exception 'a signal cannot end so' using errcode = 'SK400';
  end if;
  perform set_config('synchronous_commit', 'off', true);
  with told as (
    select s.signal_id, s.outcome, s.status, left(s.reason, 500) as reason,
      v_now + make_interval(secs => coalesce(s.retry_in_s, 0)) as next_at
    from jsonb_to_recordset(p_settlements)
      as s(signal_id uuid, outcome text, status integer, reason text, retry_in_s double precision)
  ), ours as ( -- always in one order, so that two who settle cannot wait for each other in a circle
    select o.id, o.attempts, o.lease_owner, o.leased_at, t.status, t.reason, t.next_at,
      case when t.outcome = 'retry' and t.next_at >= o.expires_at then 'expired' else t.outcome end as outcome
    from public.signal_outbox o join told t on t.signal_id = o.id
    where o.status = 'pending' and o.lease_owner = p_owner
    order by o.id for update of o
  ), written as (
    update public.signal_outbox o
    set status = case w.outcome when 'retry' then 'pending' else w.outcome end,
        next_attempt_at = case w.outcome when 'retry' then w.next_at else o.next_attempt_at end,
        settled_at = case w.outcome when 'retry' then null else v_now end,
        lease_owner = null, lease_until = null, last_status = w.status, last_reason = w.reason
    from ours w where w.id = o.id
  ), kept as (
    insert into public.signal_attempts (signal_id, attempt, owner, outcome, status, reason, started_at, ended_at)
      select w.id, w.attempts, p_owner, w.outcome, w.status, w.reason, w.leased_at, v_now from ours w
  )
  select coalesce(jsonb_agg(w.id), '[]') into v_settled from ours w;
  return v_settled;
end
$$;

-- Ends leases of dead dispatchers for the present engine.
create or replace function public.release_signals(p_owners text, p_engine uuid default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_released jsonb := public.release_signals_unchecked(p_owners);
begin
  perform public.check_engine(p_engine);
  return v_released;
end
$$;

-- The leases of owners whose name begins so end now: they are dead, and a successor goes on. How many those were.
create or replace function public.release_signals_unchecked(p_owners text) returns jsonb
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

-- How many signals wait.
create or replace function public.outbox_pending() returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(count(*)) from public.signal_outbox o where o.status = 'pending'
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
        payload = public.add_expiry(o.payload, v_expires_at)
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

revoke execute on function
  public.claim_signals, public.claim_signals_unchecked, public.expire_signals, public.settle_signals, public.release_signals,
  public.release_signals_unchecked, public.outbox_pending, public.retry_signal, public.drop_signal
  from public, anon, authenticated;
grant execute on function
  public.claim_signals, public.expire_signals, public.settle_signals, public.release_signals, public.outbox_pending,
  public.retry_signal, public.drop_signal
  to service_role;
revoke execute on function
  public.claim_signals_unchecked, public.release_signals_unchecked
  from service_role;
