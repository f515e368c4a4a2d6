-- Sequences of our tables: open to people by Supabase's defaults, and no concern of theirs.
do $$
declare
  v_sequence regclass;
begin
  for v_sequence in
    select s.oid::regclass from pg_catalog.pg_class s
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
    join pg_catalog.pg_class t on t.oid = d.refobjid and t.relnamespace = 'public'::regnamespace
    where s.relkind = 'S' and t.relname = any (array['fills', 'signal_outbox', 'signal_attempts'])
  loop
    execute format('revoke all on sequence %s from public, anon, authenticated', v_sequence);
    execute format('grant usage, select on sequence %s to service_role', v_sequence);
  end loop;
end
$$;
