// The interactive page for /openapi.json. Nothing is asked of anybody but this server.

// Swagger UI reads the whole document anew to resolve the references of the first path that is opened: ten seconds and
// more for 150 paths, in which the page stands still and the path is blank. Ours are all within the document and in no
// circle (a type of an ABI cannot hold itself), so that following them is all there is to do.
function follow(whole, part) {
  if (Array.isArray(part)) return part.map((each) => follow(whole, each));
  if (part === null || typeof part !== "object") return part;
  if (typeof part.$ref === "string" && part.$ref.startsWith("#/")) {
    const steps = part.$ref.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
    return follow(whole, steps.reduce((found, step) => found?.[step], whole));
  }
  return Object.fromEntries(Object.entries(part).map(([name, each]) => [name, follow(whole, each)]));
}

const QuickReferences = () => ({
  fn: {
    resolveSubtree: async (whole, path) => ({
      errors: [],
      spec: follow(whole, path.reduce((found, step) => found?.[step], whole)),
    }),
  },
});

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [QuickReferences],
});

// It writes the address of what is opened but does not read one that is entered while the page is there. (What is closed
// leaves an empty one.)
addEventListener("hashchange", () => location.hash && location.reload());
