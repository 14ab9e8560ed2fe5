{
  hyperhive.environment.GREETING = "good morning";
}
