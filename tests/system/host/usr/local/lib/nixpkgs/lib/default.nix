# The part of nixpkgs' lib that `nixos-container update` of 25.11 asks for.
{
  versionAtLeast = version: wanted: builtins.compareVersions version wanted >= 0;
}
