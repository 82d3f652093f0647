// Before the first paint, so that nothing flashes; a file of its own, because the policy allows no inline script.
(function () {
  var wanted = null;
  try {
    wanted = localStorage.getItem("handrail.theme");
  } catch (_) {}
  if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;
})();
