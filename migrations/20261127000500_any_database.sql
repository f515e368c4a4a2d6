-- A record of migrations that cannot be read (no right, other columns, a view that fails) is told, and fails nothing: whether
-- the database can be used does not depend on it.

create or replace function public.migration_names(p_record text, p_names text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_names jsonb;
begin
  if to_regclass(p_record) is null then
    return jsonb_build_object('names', '[]'::jsonb);
  end if;
  execute format('select coalesce(jsonb_agg(%s), ''[]'') from %s', p_names, p_record) into v_names;
  return jsonb_build_object('names', v_names);
exception when others then
  return jsonb_build_object('names', '[]'::jsonb, 'unreadable', p_record || ': ' || sqlerrm);
end
$$;

-- How the database is: which schema it has, and whether it can be written. For /health and `sparky doctor`.
create or replace function public.health() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_own jsonb := public.migration_names('public.sparky_migrations', 'name');
  v_pushed jsonb := public.migration_names(
    'supabase_migrations.schema_migrations', $names$version::text || '_' || name::text || '.sql'$names$
  );
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
  foreach v_function in array array['public.migration_names(text, text)', 'public.health()']::regprocedure[] loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
