// Sends what stands in a model's form to its row door and shows the answer.
async function ask(form) {
  const isImage = form.dataset.kind === "image";
  const file = form.querySelector("input[type=file]")?.files[0];
  const body = isImage ? file : form.querySelector("textarea").value;
  if (!body) {
    return { ok: false, note: "Choose a file first.", text: "" };
  }
  const type = isImage ? file.type || "image/png" : "application/json";
  const start = performance.now();
  const answer = await fetch(form.dataset.url, { method: "POST", headers: { "content-type": type }, body });
  const text = await answer.text();
  const note = `${answer.status} ${answer.statusText} in ${(performance.now() - start).toFixed(0)} ms`;
  return { ok: answer.ok, note, text: pretty(text) };
}

// Numbers stay as they were written: a parse would round whole numbers over 2^53.
function pretty(text) {
  try {
    const told = JSON.parse(text);
    const shown = told.predictions ?? told;
    return /\d{16}/.test(text) ? text : JSON.stringify(shown, null, 2);
  } catch {
    return text;
  }
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [button, note, output] = ["button", ".note", "output"].map((each) => form.querySelector(each));
    button.disabled = true;
    try {
      const told = await ask(form);
      note.textContent = told.note;
      output.className = told.ok ? "" : "refused";
      output.textContent = told.text;
    } catch (error) {
      note.textContent = `No answer: ${error.message}`;
      output.textContent = "";
    } finally {
      button.disabled = false;
    }
  });
}
