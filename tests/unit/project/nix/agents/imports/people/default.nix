{
  users.users.notes = {
    isSystemUser = true;
    group = "notes";
    home = "/state/notes";
  };
  users.groups.notes = { };
}
