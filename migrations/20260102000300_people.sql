-- Looks a person up without creating one.

create or replace function public.user_of(p_email text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(u.id) from auth.users u where lower(u.email) = lower(p_email) order by u.created_at limit 1
$$;

revoke execute on function public.user_of(text) from public, anon, authenticated;
grant execute on function public.user_of(text) to service_role;
