-- The dispatcher's side of the outbox: claim with a lease, settle, count.

create or replace function public.claim_signals(p_owner text, p_limit integer, p_lease_s double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_claimed jsonb;
begin
  perform public.expire_signals(v_now);
  with due as (
    select o.id from public.signal_outbox o
    where o.status = 'pending' and o.next_attempt_at <= v_now and o.expires_at > v_now
      and (o.lease_until is null or o.lease_until <= v_now)
      and not exists ( -- order is kept per (strategy, symbol): a younger signal waits for the older one's end
        select from public.signal_outbox older
        where older.status = 'pending' and older.strategy_id = o.strategy_id and older.symbol = o.symbol and older.seq < o.seq
      )
    order by o.seq
    limit greatest(p_limit, 0)
    for update of o skip locked
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

-- True if the lease was still the owner's. A retry that would come after the signal's end is its end.
create or replace function public.settle_signal(
  p_signal_id uuid, p_owner text, p_outcome text, p_status integer default null, p_reason text default null,
  p_retry_in_s double precision default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_signal public.signal_outbox;
  v_now timestamptz := clock_timestamp();
  v_next timestamptz := v_now + make_interval(secs => coalesce(p_retry_in_s, 0));
  v_outcome text := p_outcome;
begin
  if p_outcome not in ('delivered', 'refused', 'expired', 'dead', 'retry') then
    raise exception 'a signal cannot end as %', p_outcome using errcode = 'SK400';
  end if;
  select * into v_signal from public.signal_outbox o
    where o.id = p_signal_id and o.status = 'pending' and o.lease_owner = p_owner
    for update;
  if not found then
    return to_jsonb(false);
  end if;
  if p_outcome = 'retry' and v_next >= v_signal.expires_at then
    v_outcome := 'expired';
  end if;
  update public.signal_outbox
    set status = case v_outcome when 'retry' then 'pending' else v_outcome end,
        next_attempt_at = case v_outcome when 'retry' then v_next else next_attempt_at end,
        settled_at = case v_outcome when 'retry' then null else v_now end,
        lease_owner = null, lease_until = null, last_status = p_status, last_reason = left(p_reason, 500)
    where id = p_signal_id;
  insert into public.signal_attempts (signal_id, attempt, owner, outcome, status, reason, started_at, ended_at)
    values (p_signal_id, v_signal.attempts, p_owner, v_outcome, p_status, left(p_reason, 500), v_signal.leased_at, v_now);
  return to_jsonb(true);
end
$$;

create or replace function public.outbox_pending() returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(count(*)) from public.signal_outbox o where o.status = 'pending'
$$;

create or replace function public.webhook_secret(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(c.webhook_secret) from public.bot_credentials c
  where c.user_id = p_user_id and c.exchange = 'webhook' and c.webhook_secret <> ''
  order by c.updated_at desc, c.id limit 1
$$;
