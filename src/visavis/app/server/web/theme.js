// Before anything is drawn, so that a dark page does not begin with a white flash.
{
  const chosen = localStorage.getItem("visavis.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
