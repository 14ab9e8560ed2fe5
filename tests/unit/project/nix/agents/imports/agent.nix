{
  imports = [
    ./people
    ./service.nix
  ];
  hyperhive.environment.GREETING = "hello";
  services.postgresql.enable = true;
}
