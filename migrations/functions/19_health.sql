-- Whether the database can be used, and how well it is guarded.

-- How the database is: which schema it has, and whether it can be written. For /health and `sparky doctor`.
create or replace function public.health() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_own jsonb := public.migration_names(false);
  v_pushed jsonb := public.migration_names(true);
begin
  return jsonb_build_object(
    'version', current_setting('server_version'),
    'migrations', (
      select coalesce(jsonb_agg(distinct m.name order by m.name), '[]')
      from jsonb_array_elements_text((v_own -> 'names') || (v_pushed -> 'names')) m (name) where m.name is not null
    ),
    'unreadable', (
      select coalesce(jsonb_agg(u.reason), '[]')
      from unnest(array[v_own ->> 'unreadable', v_pushed ->> 'unreadable']) u (reason) where u.reason is not null
    ),
    'now', clock_timestamp(),
    'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean
  );
end
$$;

-- Of our own record, or of the one that Supabase's command keeps. It takes no text: who may call it is no owner of the schema.
create or replace function public.migration_names(p_is_pushed boolean) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_record text := case when p_is_pushed then 'supabase_migrations.schema_migrations' else 'public.sparky_migrations' end;
  v_names jsonb;
begin
  if to_regclass(v_record) is null then
    v_names := '[]';
  elsif p_is_pushed then
    select coalesce(jsonb_agg(m.version::text || '_' || m.name::text || '.sql'), '[]') into v_names
      from supabase_migrations.schema_migrations m;
  else
    select coalesce(jsonb_agg(m.name), '[]') into v_names from public.sparky_migrations m;
  end if;
  return jsonb_build_object('names', v_names);
exception when others then
  return jsonb_build_object('names', '[]'::jsonb, 'unreadable', v_record || ': ' || sqlerrm);
end
$$;

-- How well this database is guarded, as its catalogue tells: our tables, and every table that only the service role may use.
create or replace function public.security_report() returns jsonb
language sql stable security definer set search_path = '' as $$
  with ours as (
    select c.oid, c.relname::text as name, c.relrowsecurity from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and (c.relname = any (array[
      'ai_strategies', 'ai_trade_log', 'strategy_ledger', 'llm_spend', 'bot_credentials', 'positions', 'trades', 'fills',
      'trade_settings_exchange', 'webhook_requests', 'signal_outbox', 'signal_attempts', 'equity_points',
      'reconciliation_differences', 'leases', 'kill_switches', 'sparky_migrations'
    ]) or exists (
      select from pg_catalog.pg_policy y where y.polrelid = c.oid and y.polname = 'sparky_service'
    ))
  )
  select jsonb_build_object(
    'without_row_level_security', coalesce((select jsonb_agg(o.name order by o.name) from ours o where not o.relrowsecurity), '[]'),
    'open_to_people', coalesce((
      select jsonb_agg(distinct p.proname order by p.proname) from pg_catalog.pg_proc p
      where p.pronamespace = 'public'::regnamespace and p.prosecdef and p.proconfig @> array['search_path=""']
        and (has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))
    ), '[]'),
    'readable_by_anon', coalesce((
      select jsonb_agg(o.name order by o.name) from ours o
      where o.name <> 'sparky_migrations' and has_table_privilege('anon', o.oid, 'select')
    ), '[]'),
    'secrets', coalesce((
      select jsonb_object_agg(k.kept, k.number) from (
        select case when s.value ->> 'stored' like 'enc:v1:%' then split_part(s.value ->> 'stored', ':', 3) else 'clear' end
            as kept, count(*) as number
        from jsonb_array_elements(public.stored_secrets()) s group by 1
      ) k
    ), '{}')
  )
$$;

revoke execute on function
  public.health, public.migration_names, public.security_report
  from public, anon, authenticated;
grant execute on function
  public.health, public.migration_names, public.security_report
  to service_role;
