-- A record of migrations that cannot be read (no right, other columns, a view that fails) is told, and fails nothing: whether
-- the database can be used does not depend on it.

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

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array['public.migration_names(boolean)', 'public.health()']::regprocedure[] loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
