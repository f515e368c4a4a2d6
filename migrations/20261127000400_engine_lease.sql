-- One engine per database. Who holds the lease `engine` runs strategies and carries signals; every change of hands begins an
-- epoch, and what an engine of an earlier epoch wants to record is refused with SQLSTATE SK423, however late it comes.
--
-- An epoch is known by its run, the id of one start of a supervisor, which leaves once it has lost the lease. A lease that was
-- not renewed in time can be taken; until somebody takes it, its run may go on, so that an outage of the database costs nobody a
-- decision.

alter table public.leases add column if not exists run uuid;
alter table public.leases add column if not exists is_released boolean not null default false;
alter table public.leases add column if not exists epoch bigint not null default 0;
alter table public.leases add column if not exists location text not null default ''; -- where it runs, for people

create or replace function public.engine_tenure() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce((
    select jsonb_build_object(
      'run', l.run, 'epoch', l.epoch, 'location', l.location, 'since', l.taken_at, 'until', l.until,
      'left_s', greatest(0, extract(epoch from l.until - clock_timestamp()))
    )
    from public.leases l where l.name = 'engine' and l.run is not null
  ), 'null')
$$;

-- Takes the lease for a run, or keeps it; whose it is then, and whether it was another home's until now. p_home names the home and
-- the boot it is used in: its lock lets one supervisor run there, so that a new one (p_is_new) need not wait for the end of one
-- that was killed. A renewal is the run's alone: one that was on its way when its sender died takes nothing from its successor.
--
-- Another home's lease is taken when it was given back, or when its end is p_unrenewed: the taker says that it has seen no renewal
-- for long enough. Its end alone proves nothing where the database itself was away, or had its clock set.
create or replace function public.hold_engine(
  p_run uuid, p_home text, p_location text, p_ttl_s double precision, p_is_new boolean, p_unrenewed timestamptz default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_before public.leases;
  v_tenure jsonb;
begin
  select * into v_before from public.leases l where l.name = 'engine';
  insert into public.leases as l (name, owner, until, run, epoch, location, taken_at)
    values ('engine', p_home, v_now + make_interval(secs => p_ttl_s), p_run, 1, left(p_location, 300), v_now)
    on conflict (name) do update
      set owner = excluded.owner, until = excluded.until, run = excluded.run, location = excluded.location, is_released = false,
          epoch = case when l.run = excluded.run then l.epoch else l.epoch + 1 end,
          taken_at = case when l.run = excluded.run then l.taken_at else v_now end
      where l.run = excluded.run
        or (p_is_new and (l.owner = excluded.owner or l.is_released or l.until = p_unrenewed));
  v_tenure := public.engine_tenure();
  return v_tenure || jsonb_build_object(
    'is_taken_over',
    coalesce(v_tenure -> 'run' = to_jsonb(p_run) and v_before.run <> p_run and v_before.owner <> p_home, false)
  );
end
$$;

-- The lease of a webhook server that belongs to an engine: never while another engine runs, whose server it would keep from
-- executing. One that has it and may not keep it gives it back.
create or replace function public.hold_lease_of_engine(
  p_name text, p_owner text, p_ttl_s double precision, p_engine uuid
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if exists (select from public.leases l where l.name = 'engine' and l.run is distinct from p_engine) then
    delete from public.leases l where l.name = p_name and l.owner = p_owner;
    return 'false';
  end if;
  return public.hold_lease(p_name, p_owner, p_ttl_s);
end
$$;

-- What was asked of models in the last p_seconds for decisions that were recorded, per model and second: whoever takes the lease
-- over from another home knows of it in no other way, and the provider's limits go on.
create or replace function public.model_use(p_seconds double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(u)), '[]') from (
    select c.call ->> 'model' as model,
      round(extract(epoch from clock_timestamp() - d.created_at))::integer as age_s,
      count(*)::integer as requests,
      sum(t.prompt + t.completion) as tokens
    from public.ai_trade_log d
    cross join lateral jsonb_array_elements(
      case when jsonb_typeof(d.decision_json -> 'calls') = 'array' then d.decision_json -> 'calls' else '[]' end
    ) as c(call)
    cross join lateral (
      select
        case when c.call ->> 'prompt_tokens' ~ '^\d{1,9}$' then (c.call ->> 'prompt_tokens')::bigint else 0 end as prompt,
        case when c.call ->> 'completion_tokens' ~ '^\d{1,9}$' then (c.call ->> 'completion_tokens')::bigint else 0 end
          as completion
    ) t
    where d.created_at > clock_timestamp() - make_interval(secs => p_seconds) and c.call ->> 'model' is not null
    group by 1, 2
    order by 2 desc
  ) u
$$;

-- Lets others take it at once. The row stays, and with it the epoch.
create or replace function public.release_engine(p_run uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.leases l set until = least(l.until, clock_timestamp()), is_released = true
    where l.name = 'engine' and l.run = p_run;
  return to_jsonb(found);
end
$$;

-- Raises unless p_run is the present epoch's, or there is no run (an engine of an older release, a tool) and no lease that lasts.
-- The row stays locked against whoever would take the lease, so that what the caller has done ends before that.
create or replace function public.check_engine(p_run uuid) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_lease public.leases;
begin
  select * into v_lease from public.leases l where l.name = 'engine' for share;
  if v_lease.run is distinct from p_run and (p_run is not null or v_lease.until > clock_timestamp()) then
    raise exception 'another engine runs on this database: %', coalesce(nullif(v_lease.location, ''), 'nobody says where')
      using errcode = 'SK423';
  end if;
end
$$;

-- What an engine asks and records, each for the present epoch alone. The functions inside are what they were.

do $$
begin
  if to_regprocedure('public.record_decision_unchecked(uuid, uuid, jsonb, jsonb)') is null then
    alter function public.record_decision(uuid, uuid, jsonb, jsonb) rename to record_decision_unchecked;
    alter function public.claim_signals(text, integer, double precision) rename to claim_signals_unchecked;
    alter function public.pause_strategy(uuid, text, text) rename to pause_strategy_unchecked;
    alter function public.strategy_context(uuid) rename to strategy_context_unchecked;
    alter function public.release_signals(text) rename to release_signals_unchecked;
  else -- earlier files ran once more, as in an editor: what they made again would ask for no engine
    drop function if exists public.record_decision(uuid, uuid, jsonb, jsonb);
    drop function if exists public.claim_signals(text, integer, double precision);
    drop function if exists public.pause_strategy(uuid, text, text);
    drop function if exists public.strategy_context(uuid);
    drop function if exists public.release_signals(text);
  end if;
end
$$;

-- The check comes last: a record that waits for its strategy's row must not keep the lease from being renewed.
create or replace function public.record_decision(
  p_decision_id uuid, p_strategy_id uuid, p_record jsonb, p_signal jsonb default null, p_engine uuid default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_recorded jsonb := public.record_decision_unchecked(p_decision_id, p_strategy_id, p_record, p_signal);
begin
  perform public.check_engine(p_engine);
  return v_recorded;
end
$$;

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

create or replace function public.release_signals(p_owners text, p_engine uuid default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_released jsonb := public.release_signals_unchecked(p_owners);
begin
  perform public.check_engine(p_engine);
  return v_released;
end
$$;

-- Checked without a lock: an engine that is not the present one pays no model. People's commands name no engine.
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

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname = any (array[
        'engine_tenure', 'hold_engine', 'release_engine', 'check_engine', 'model_use', 'hold_lease_of_engine',
        'record_decision', 'claim_signals', 'release_signals', 'pause_strategy', 'strategy_context'
      ])
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname like '%\_unchecked'
  loop
    execute format('revoke execute on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
