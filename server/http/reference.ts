import Fastify from 'fastify';
import { ASK_AGAIN, type Asset, FOR_EVER, makeAsset, nameOf } from './assets.ts';

/** The browsable reference: a page and the script that it runs, under a name that changes with its content. */
export type Reference = { readonly page: Asset; readonly script: Asset; readonly scriptName: string };

/** Where the library's page looks for its script. */
const SCRIPT = 'js/scalar.js';

/** The library's faint grey and its green stand at less than 4.5 to 1 against what is behind them. */
const READABLE =
  '.light-mode { --scalar-color-3: #666; --scalar-color-green: #00734a; } .dark-mode { --scalar-color-3: #999; }';

/**
 * Makes the reference from what the library would serve. It is loaded at the first call: its script alone is 4.9 MB,
 * and a process that nobody asks for the reference does without.
 */
export async function makeReference(): Promise<Reference> {
  const { default: plugin } = await import('@scalar/fastify-api-reference');
  const library = Fastify();
  await library.register(plugin, {
    routePrefix: '/docs',
    configuration: {
      url: '/openapi.json',
      pageTitle: 'Driftstack Billing API',
      customCss: READABLE,
      withDefaultFonts: false,
      telemetry: false,
      hideClientButton: true,
      showDeveloperTools: 'never',
      authentication: { preferredSecurityScheme: 'apiKey' },
      agent: { disabled: true },
      mcp: { disabled: true },
    },
  });
  const textOf = async (path: string): Promise<string> => {
    const { statusCode, payload } = await library.inject(path);
    if (statusCode !== 200) throw new Error(`The reference's library answers ${statusCode} to ${path}`);
    return payload;
  };
  const [page, script] = await Promise.all([textOf('/docs/'), textOf(`/docs/${SCRIPT}`)]);
  await library.close();
  const scriptName = `scalar-${nameOf(script)}.js`;
  return {
    page: makeAsset(replaced(replaced(page, SCRIPT, scriptName), '<html>', '<html lang="en">'), {
      type: 'text/html; charset=utf-8',
      cacheControl: ASK_AGAIN,
    }),
    script: makeAsset(script, { type: 'text/javascript; charset=utf-8', cacheControl: FOR_EVER }),
    scriptName,
  };
}

function replaced(text: string, from: string, to: string): string {
  if (text.split(from).length !== 2) throw new Error(`The reference's page has not one ${from}`);
  return text.replace(from, to);
}
