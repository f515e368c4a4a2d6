-- Signal payloads: functions as migrations/functions/ has them.

set check_function_bodies = off; -- a function may call one that is created further down

-- Records a decision for the present engine, with its signal. p_payload is the finished body for the webhook server, the JSON text
-- of `engine.domain.signal_payload`: as text, so that no transport rounds a number. It expires p_ttl_s from now, however long the
-- record waits for its strategy's row. The engine is checked last: a record that waits must not keep the lease from being renewed.
create or replace function public.record_decision(
  p_decision_id uuid, p_strategy_id uuid, p_record jsonb, p_payload text default null, p_ttl_s double precision default null,
  p_engine uuid default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_expires_at timestamptz := clock_timestamp() + make_interval(secs => p_ttl_s);
  v_recorded jsonb := public.record_decision_unchecked(
    p_decision_id, p_strategy_id, p_record, public.add_expiry(p_payload::jsonb, v_expires_at)
  );
begin
  perform public.check_engine(p_engine);
  return v_recorded;
end
$$;

-- The payload of a signal that expires at this moment. It is the one field that is written here: claim_signals ends a signal by the
-- database's clock, and the webhook server must read the same moment as the row has.
create or replace function public.add_expiry(p_payload jsonb, p_expires_at timestamptz) returns jsonb
language sql stable set search_path = '' as $$
  select p_payload || jsonb_build_object(
    'expires_at', to_char(p_expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  )
$$;

-- Stores the payload as it is: the body of POST /webhook/ai-signal, to which the dispatcher adds the signature. No secret is ever
-- stored here. Its ids are compared with the row that this transaction has locked, because the signature is made with the secret
-- of the row's person. Whether it is on paper is the strategy's at this moment.
create or replace function public.queue_signal(
  p_signal_id uuid, p_strategy public.ai_strategies, p_signal jsonb
) returns void
language plpgsql set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if (p_signal ->> 'signal_id', p_signal ->> 'user_id', p_signal ->> 'strategy_id')
    is distinct from (p_signal_id::text, p_strategy.user_id::text, p_strategy.id::text) then
    raise exception 'the payload is not that of decision %, its strategy and its person', p_signal_id using errcode = 'SK400';
  end if;
  insert into public.signal_outbox (
    id, user_id, strategy_id, exchange, symbol, action, is_paper, next_attempt_at, created_at, expires_at, payload
  ) values (
    p_signal_id, p_strategy.user_id, p_strategy.id, p_signal ->> 'exchange', p_signal ->> 'symbol', p_signal ->> 'action',
    coalesce(p_strategy.is_paper_trading, true), v_now, v_now, (p_signal ->> 'expires_at')::timestamptz, p_signal
  );
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
        payload = public.add_expiry(o.payload, v_expires_at)
    where o.id = p_signal_id and (o.lease_until is null or o.lease_until <= clock_timestamp())
    returning * into v_signal;
  if not found then
    raise exception 'the signal is being sent this moment' using errcode = 'SK409';
  end if;
  return to_jsonb(v_signal);
end
$$;

revoke execute on function
  public.add_expiry(jsonb,timestamp with time zone),
  public.record_decision(uuid,uuid,jsonb,text,double precision,uuid)
  from public, anon, authenticated;

grant execute on function
  public.add_expiry(jsonb,timestamp with time zone),
  public.record_decision(uuid,uuid,jsonb,text,double precision,uuid)
  to service_role;

reset check_function_bodies;

notify pgrst, 'reload schema';
