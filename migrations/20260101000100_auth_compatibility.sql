-- Supabase brings its own auth schema, users, auth.uid() and API roles; a plain PostgreSQL gets stand-ins of the same shape.
-- Nothing that exists is touched.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute format('create role %I nologin noinherit', v_role);
      exception when duplicate_object or unique_violation then
        null; -- roles belong to the whole server: the migration of another database was quicker
      end;
    end if;
  end loop;

  if to_regnamespace('auth') is null then
    execute 'create schema auth';
    execute 'grant usage on schema auth to anon, authenticated, service_role';
  end if;

  if to_regclass('auth.users') is null then
    execute 'create table auth.users (
      id uuid primary key default gen_random_uuid(),
      email text,
      created_at timestamptz not null default now()
    )';
    execute 'create unique index users_email_key on auth.users (lower(email))';
  end if;

  if to_regprocedure('auth.uid()') is null then
    -- The same two settings that PostgREST fills from the JWT.
    execute $function$
      create function auth.uid() returns uuid language sql stable set search_path = '' as $body$
        select coalesce(
          nullif(current_setting('request.jwt.claim.sub', true), ''),
          nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
        )::uuid
      $body$
    $function$;
  end if;
end
$$;
