-- What the engine asks of the database: which strategies run, all that one cycle needs, and the record of its decision.
-- Every function that others call returns one jsonb. SQLSTATE SK404 (no such row), SK409 (state forbids it), SK400 (bad
-- argument) and SK426 (an engine of an older version) are ours.

create or replace function public.running_strategies() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', s.id,
    'user_id', s.user_id,
    'name', coalesce(s.name, ''),
    'cadence_seconds', coalesce(s.cadence_seconds, 45),
    'model', s.model,
    'revision', to_char(s.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  ) order by s.created_at, s.id), '[]')
  from public.ai_strategies s
  where s.status = 'running'
$$;

-- A strategy is asked about what it holds in its own book, and can only close on its exchange and in its symbols. What belongs to
-- no strategy is a person's own (a charting service's alert, say) and is not meant; a decision tells that it was a strategy's.
-- `why` is the status of the row, or gone, other book, other exchange, other symbols. Live positions come first.
create or replace function public.unattended_positions() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', u.id, 'user_id', u.user_id, 'strategy_id', u.strategy_id, 'strategy_name', u.strategy_name, 'why', u.why,
    'since', u.since, 'exchange', lower(u.exchange), 'symbol', u.symbol, 'side', public.position_side(u.side),
    'quantity', u.quantity, 'entry_price', u.entry_price, 'entry_time', coalesce(u.entry_time, u.created_at),
    'stop_loss_price', u.stop_loss_price, 'take_profit_price', u.take_profit_price, 'is_paper', u.is_paper
  ) order by u.is_paper, u.entry_time, u.id), '[]')
  from (
    select p.*, s.name as strategy_name,
      case when s.status <> 'running' then coalesce(s.paused_at, s.updated_at) end as since,
      case
        when s.id is null then 'gone'
        when s.status <> 'running' then s.status
        when p.is_paper <> coalesce(s.is_paper_trading, true) then 'other book'
        when lower(p.exchange) <> lower(s.exchange) then 'other exchange'
        when not coalesce(p.symbol = any (s.target_assets), false) then 'other symbols'
      end as why
    from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
    where p.strategy_id is not null or p.decision_id is not null
  ) u
  where u.why is not null
$$;

-- All that one cycle needs. Checked without a lock: an engine that is not the present one pays no model. People name no engine.
create or replace function public.strategy_context(p_strategy_id uuid, p_engine uuid default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_location text;
begin
  if p_engine is not null then
    select l.location into v_location from public.leases l where l.name = 'engine' and l.run is distinct from p_engine;
    if found then
      raise exception 'another engine runs on this database: %', coalesce(nullif(v_location, ''), 'nobody says where')
        using errcode = 'SK423';
    end if;
  end if;
  return public.strategy_context_unchecked(p_strategy_id);
end
$$;

-- The strategy with the rules in force, what it holds, what it is worth, and what its model calls cost today.
create or replace function public.strategy_context_unchecked(p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'strategy', to_jsonb(s) || jsonb_build_object('rules', public.entry_rules(s)),
    'positions', coalesce((
      select jsonb_agg(public.position_json(p) order by p.entry_time, p.id)
      from public.positions p where p.strategy_id = s.id and p.is_paper = s.is_paper_trading
    ), '[]'),
    'equity_usd', f.equity_usd,
    'peak_equity_usd', f.peak_equity_usd,
    'drawdown_percent', f.drawdown_percent,
    'llm_spent_today_usd', spent.own,
    'llm_spent_today_by_all_usd', spent.by_all
  )
  from public.ai_strategies s
  cross join lateral public.strategy_equity(s.id, s.is_paper_trading, s.capital_usd) f
  cross join lateral (
    select coalesce(sum(l.cost_usd) filter (where l.strategy_id = s.id), 0) as own, coalesce(sum(l.cost_usd), 0) as by_all
    from public.llm_spend l where l.day = (now() at time zone 'UTC')::date
  ) spent
  where s.id = p_strategy_id
$$;

-- Equity = capital + realised P&L + unrealised P&L; unrealised P&L is net of the entry fees and of funding, which are already paid.
create or replace function public.strategy_equity(
  p_strategy_id uuid, p_is_paper boolean, p_capital_usd numeric,
  out realized_pnl_usd numeric, out unrealized_pnl_usd numeric, out equity_usd numeric,
  out peak_equity_usd numeric, out drawdown_percent numeric
)
language plpgsql stable security definer set search_path = '' as $$
declare
  v_peak_pnl numeric := 0;
begin
  select l.realized_pnl_usd, l.peak_pnl_usd into realized_pnl_usd, v_peak_pnl
    from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
  if not found then -- trades of the original system have no ledger yet
    select coalesce(sum(t.pnl_usd), 0) into realized_pnl_usd
      from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper;
    v_peak_pnl := 0;
  end if;
  select coalesce(sum(coalesce(p.unrealized_pnl_usd, p.funding_usd - p.fees_usd)), 0) into unrealized_pnl_usd
    from public.positions p where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper;
  equity_usd := p_capital_usd + realized_pnl_usd + unrealized_pnl_usd;
  peak_equity_usd := p_capital_usd + greatest(v_peak_pnl, realized_pnl_usd + unrealized_pnl_usd);
  drawdown_percent := round(greatest(0, peak_equity_usd - equity_usd) * 100 / nullif(peak_equity_usd, 0), 6);
end
$$;

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

-- How an engine of an older version calls: it was not restarted after the migration, and what it would record is no signal any
-- more. SK426 is none of the states that an engine takes for final: its strategies go on as soon as it is restarted.
create or replace function public.record_decision(
  p_decision_id uuid, p_strategy_id uuid, p_record jsonb, p_signal jsonb default null, p_engine uuid default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  raise exception 'this engine is of an older version than the database: restart it with the present one'
    using errcode = 'SK426';
end
$$;

-- One transaction: the log row, what it cost, and the signal, whose payload p_signal is. The strategy's row is locked, so its
-- signals are numbered in order.
create or replace function public.record_decision_unchecked(
  p_decision_id uuid, p_strategy_id uuid, p_record jsonb, p_signal jsonb default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_strategy public.ai_strategies;
  v_signal jsonb := nullif(p_signal, 'null'::jsonb);
  v_suppressed text;
  v_cost numeric := coalesce((p_record ->> 'cost_usd')::numeric, 0);
begin
  select * into v_strategy from public.ai_strategies s where s.id = p_strategy_id for no key update;
  if not found then
    raise exception 'there is no strategy %', p_strategy_id using errcode = 'SK404';
  end if;
  if v_signal ->> 'action' <> 'CLOSE' then
    v_suppressed := public.entry_block_reason(v_strategy);
  end if;
  insert into public.ai_trade_log (
    id, ai_strategy_id, user_id, decision_json, confidence_score, signal_action, symbol, size_usd, reasoning, reason, is_fault,
    suppressed, raw_answer, model, request_id, prompt_tokens, cached_tokens, completion_tokens, cost_usd, latency_s,
    stop_loss_percent, take_profit_percent, market, created_at
  ) values (
    p_decision_id, v_strategy.id, v_strategy.user_id, p_record - array['raw_answer', 'market'],
    (p_record ->> 'confidence')::numeric, p_record ->> 'action', p_record ->> 'symbol', (p_record ->> 'size_usd')::numeric,
    left(p_record ->> 'reasoning', 100), p_record ->> 'reason', coalesce((p_record ->> 'is_fault')::boolean, false),
    v_suppressed, p_record ->> 'raw_answer', p_record ->> 'model', p_record ->> 'request_id',
    (p_record ->> 'prompt_tokens')::integer, (p_record ->> 'cached_tokens')::integer,
    (p_record ->> 'completion_tokens')::integer, (p_record ->> 'cost_usd')::numeric,
    (p_record ->> 'latency_s')::double precision, (p_record ->> 'stop_loss_percent')::numeric,
    (p_record ->> 'take_profit_percent')::numeric, nullif(p_record -> 'market', 'null'::jsonb), clock_timestamp()
  ) on conflict (id) do nothing;
  if not found then
    return public.recorded_decision(p_decision_id, p_strategy_id);
  end if;
  insert into public.llm_spend as l (strategy_id, day, decisions, cost_usd)
    values (p_strategy_id, (now() at time zone 'UTC')::date, 1, v_cost)
    on conflict (strategy_id, day) do update
    set decisions = l.decisions + 1, cost_usd = l.cost_usd + excluded.cost_usd;
  if v_signal is not null and v_suppressed is null then
    perform public.queue_signal(p_decision_id, v_strategy, v_signal);
    return jsonb_build_object('decision_id', p_decision_id, 'signal_id', p_decision_id, 'suppressed', null);
  end if;
  return jsonb_build_object('decision_id', p_decision_id, 'signal_id', null, 'suppressed', v_suppressed);
end
$$;

-- Why an entry must not be sent, or null: judged as `engine.risk.strategy_state` does, in the same words, because the row may have
-- changed since the cycle read it. What is not known (null, NaN, infinity) is no permission; NaN would be above every drawdown.
create or replace function public.entry_block_reason(p_strategy public.ai_strategies) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_drawdown numeric;
  v_limit numeric := public.finite_or_null(p_strategy.max_drawdown_percent);
begin
  if p_strategy.status <> 'running' then
    return format('The strategy is %s: it may only close', p_strategy.status);
  end if;
  select public.finite_or_null(f.drawdown_percent) into v_drawdown
    from public.strategy_equity(p_strategy.id, p_strategy.is_paper_trading, p_strategy.capital_usd) f;
  if v_drawdown is null or v_limit is null then
    return 'The strategy''s drawdown, or its limit, is not known: it may only close';
  elsif v_drawdown >= v_limit then
    return format(
      'The strategy''s drawdown of %s %% has reached its limit of %s %%: it may only close', round(v_drawdown, 2), round(v_limit, 2)
    );
  end if;
  return null;
end
$$;

-- What an earlier call with the same decision recorded.
create or replace function public.recorded_decision(p_decision_id uuid, p_strategy_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_recorded jsonb;
begin
  select jsonb_build_object('decision_id', l.id, 'signal_id', o.id, 'suppressed', l.suppressed) into v_recorded
    from public.ai_trade_log l left join public.signal_outbox o on o.id = l.id
    where l.id = p_decision_id and l.ai_strategy_id = p_strategy_id;
  if not found then
    raise exception 'decision % belongs to another strategy', p_decision_id using errcode = 'SK409';
  end if;
  return v_recorded;
end
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

-- Pauses a running strategy for the present engine. False if it was not running.
create or replace function public.pause_strategy(
  p_strategy_id uuid, p_reason text, p_traceback text default null, p_engine uuid default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_paused jsonb := public.pause_strategy_unchecked(p_strategy_id, p_reason, p_traceback);
begin
  perform public.check_engine(p_engine);
  return v_paused;
end
$$;

create or replace function public.pause_strategy_unchecked(
  p_strategy_id uuid, p_reason text, p_traceback text default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.ai_strategies
    set status = 'paused', paused_reason = left(p_reason, 1000), paused_at = clock_timestamp(),
        paused_traceback = left(p_traceback, 20000)
    where id = p_strategy_id and status = 'running';
  return to_jsonb(found);
end
$$;

revoke execute on function public.running_strategies, public.unattended_positions, public.strategy_context,
  public.strategy_context_unchecked, public.strategy_equity, public.record_decision(uuid, uuid, jsonb, text, double precision, uuid),
  public.record_decision(uuid, uuid, jsonb, jsonb, uuid), public.record_decision_unchecked, public.entry_block_reason,
  public.recorded_decision, public.queue_signal, public.add_expiry, public.pause_strategy, public.pause_strategy_unchecked
  from public, anon, authenticated;
grant execute on function public.running_strategies, public.unattended_positions, public.strategy_context, public.strategy_equity,
  public.record_decision(uuid, uuid, jsonb, text, double precision, uuid), public.record_decision(uuid, uuid, jsonb, jsonb, uuid),
  public.entry_block_reason, public.recorded_decision, public.queue_signal, public.add_expiry, public.pause_strategy
  to service_role;
revoke execute on function public.strategy_context_unchecked, public.record_decision_unchecked, public.pause_strategy_unchecked
  from service_role;
