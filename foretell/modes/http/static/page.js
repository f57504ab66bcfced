// Sends what stands in a model's form to its row door and shows the answer.
async function ask(form) {
  const { url, type, example } = form.dataset;
  const file = form.querySelector("input[type=file]")?.files[0];
  let body = file ?? form.querySelector("textarea")?.value;
  if (!body) {
    body = await (await fetch(example)).blob(); // nothing was chosen or typed: the example is sent
  }
  const headers = { "content-type": file ? file.type || type : type };
  const start = performance.now();
  const answer = await fetch(url, { method: "POST", headers, body });
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

// Shows the chosen picture where the example stood; on a canvas, which needs no address that the page's policy must allow.
async function preview(form, file) {
  const shown = form.querySelector("img, canvas");
  const canvas = document.createElement("canvas");
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, 192 / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, bitmap.width * scale);
  canvas.height = Math.max(1, bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  shown.replaceWith(canvas);
}

for (const form of document.querySelectorAll("form")) {
  const [button, note, output] = ["button", ".note", "output"].map((each) => form.querySelector(each));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
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
  form.querySelector("textarea")?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const picker = form.querySelector("input[type=file]");
  picker?.addEventListener("change", () => picker.files[0] && preview(form, picker.files[0]).catch(() => {}));
  const frame = form.querySelector(".picture");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    frame?.addEventListener(kind, (event) => {
      event.preventDefault();
      frame.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        picker.files = event.dataTransfer.files;
        picker.dispatchEvent(new Event("change"));
      }
    });
  }
}

for (const picker of document.querySelectorAll(".versions")) {
  const form = picker.closest("section").querySelector("form");
  const point = () => (form.dataset.url = picker.querySelector("input:checked").value);
  picker.addEventListener("change", point);
  point(); // a page that is loaded again may come with what was chosen before
}

for (const line of document.querySelectorAll(".line")) {
  const button = document.createElement("button");
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line.querySelector("pre").textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(line.querySelector("pre"));
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
  line.append(button);
}
