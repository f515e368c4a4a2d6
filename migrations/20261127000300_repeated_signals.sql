-- Signals that their sender gave no id are known by their body: ids that begin with body/ are derived from it.

-- True when the request ended after its sender had been told to come back: what the sender sends next repeats it.
alter table public.webhook_requests add column if not exists is_unheard boolean not null default false;

create index if not exists webhook_requests_derived_idx on public.webhook_requests (user_id, fingerprint)
  where starts_with(request_id, 'body/');

-- The id of the request that a body without a moment of its own repeats: one with that body that has been under way for
-- longer than p_least_s, or whose end its sender has not heard. Null when there is none.
create or replace function public.repeated_request(p_user_id uuid, p_fingerprint text, p_least_s double precision) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb((
    select r.request_id from public.webhook_requests r
    where r.user_id = p_user_id and r.fingerprint = p_fingerprint and starts_with(r.request_id, 'body/')
      and (r.is_unheard or (
        r.status in ('received', 'submitted', 'filled')
        and r.created_at < clock_timestamp() - make_interval(secs => p_least_s)
      ))
    order by r.created_at desc limit 1
  ))
$$;

-- Notes whether the sender of an ended request was there to hear its end.
create or replace function public.note_heard(p_request_id text, p_user_id uuid, p_is_heard boolean) returns jsonb
language sql security definer set search_path = '' as $$
  update public.webhook_requests r set is_unheard = not p_is_heard
  where r.user_id = p_user_id and r.request_id = p_request_id and r.status not in ('received', 'submitted', 'filled')
    and r.is_unheard = p_is_heard;
  select 'true'::jsonb
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.repeated_request(uuid, text, double precision)', 'public.note_heard(text, uuid, boolean)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
