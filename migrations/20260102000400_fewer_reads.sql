-- The same answers for less work: settlements are written in two statements for all, and a request that has just been
-- written is not read again.

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

create or replace function public.begin_execution(
  p_server text, p_request_id text, p_user_id uuid, p_strategy_id uuid, p_exchange text, p_symbol text, p_action text,
  p_fingerprint text, p_payload jsonb, p_is_paper boolean
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
  if v_began ->> 'state' = 'busy' then
    select r.status <> 'received' into v_is_sent from public.webhook_requests r
      where r.user_id = p_user_id and r.request_id = p_request_id;
  end if;
  select s.is_paper_trading into v_is_paper from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id;
  v_is_paper := coalesce(v_is_paper, p_is_paper);
  return v_began || jsonb_build_object(
    'is_paper', v_is_paper,
    'is_sent', v_is_sent,
    'other_sides', case when v_is_paper and p_action <> 'CLOSE' then '[]' else ( -- the venue knows only the net of all
      select coalesce(jsonb_agg(distinct public.position_side(p.side)), '[]') from public.positions p
      where p.user_id = p_user_id and p.exchange = p_exchange and p.symbol = p_symbol and not p.is_paper
        and p.strategy_id is distinct from p_strategy_id
    ) end,
    'portfolio', case when p_action <> 'CLOSE' then public.portfolio(p_user_id, p_exchange, p_strategy_id, v_is_paper) end,
    'positions', case when p_action = 'CLOSE' then public.own_positions(p_user_id, p_exchange, p_strategy_id, p_symbol) else '[]' end
  );
end
$$;
