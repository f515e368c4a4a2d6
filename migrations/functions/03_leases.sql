-- Who may run strategies on this database (one engine), and who may execute (one webhook server).
-- SQLSTATE SK423: another engine runs.

-- Who holds the engine's lease, since which epoch.
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

-- Gives a lease back.
create or replace function public.release_lease(p_name text, p_owner text) returns jsonb
language sql security definer set search_path = '' as $$
  delete from public.leases l where l.name = p_name and l.owner = p_owner;
  select 'true'::jsonb
$$;

-- Whether a server holds the lease to execute; one that names itself with null needs none.
create or replace function public.has_lease(p_owner text) returns boolean
language sql stable set search_path = '' as $$
  select p_owner is null or exists (
    select from public.leases l where l.name = 'webhook' and l.owner = p_owner and l.until > clock_timestamp()
  )
$$;

revoke execute on function
  public.engine_tenure, public.hold_engine, public.release_engine, public.check_engine, public.model_use, public.hold_lease,
  public.hold_lease_of_engine, public.release_lease, public.has_lease
  from public, anon, authenticated;
grant execute on function
  public.engine_tenure, public.hold_engine, public.release_engine, public.check_engine, public.model_use, public.hold_lease,
  public.hold_lease_of_engine, public.release_lease, public.has_lease
  to service_role;
