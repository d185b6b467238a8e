// Asks a server of hf_multitask for predictions and marks their entities. Strings of JavaScript count UTF-16 code units.

/** Return the predictions of a server for a text, by task, with offsets in UTF-16 code units. */
export async function predict(server, text, token = "") {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const body = JSON.stringify({ inputs: text, offsets: "utf16" });
  const response = await fetch(new URL("/predict", server), { method: "POST", headers, body });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${response.status}: ${answer.detail}`);
  return answer;
}

/** Divide a text into parts `{text, label}`; the label of a part outside of entities is null. */
export function divide(text, entities) {
  const parts = [];
  let end = 0;
  for (const entity of [...entities].sort((a, b) => a.start - b.start)) {
    if (entity.start > end) parts.push({ text: text.slice(end, entity.start), label: null });
    parts.push({ text: text.slice(entity.start, entity.end), label: entity.label });
    end = entity.end;
  }
  if (end < text.length) parts.push({ text: text.slice(end), label: null });
  return parts;
}
