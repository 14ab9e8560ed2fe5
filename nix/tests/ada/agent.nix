{ pkgs, ... }:

{
  hyperhive.packages = [ pkgs.hello ];
  hyperhive.environment.GREETING = "hello";
  hyperhive.mcpServers.clock = {
    command = "/run/current-system/sw/bin/clock";
    args = [ "--utc" ];
  };
}
