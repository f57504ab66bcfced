// Sends what stands in a model's form to its row door and shows the answer.
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = form.querySelector("output");
    const file = form.querySelector("input[type=file]")?.files[0];
    const body = form.dataset.kind === "image" ? file : form.querySelector("textarea").value;
    if (!body) {
      output.textContent = "Choose a file first.";
      return;
    }
    const type = form.dataset.kind === "image" ? file.type || "image/png" : "application/json";
    try {
      const answer = await fetch(form.dataset.url, { method: "POST", headers: { "content-type": type }, body });
      output.className = answer.ok ? "" : "refused";
      output.textContent = JSON.stringify(await answer.json(), null, 1);
    } catch (error) {
      output.className = "refused";
      output.textContent = `No answer: ${error.message}`;
    }
  });
}
