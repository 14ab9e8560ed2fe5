{
  services.nonesuch.enable = true;
}
