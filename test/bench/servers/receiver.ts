import { createServer } from 'node:http';
import { serve } from './serve.ts';

/** An endpoint of a customer at its fastest: reads the body and answers 200. */
const server = createServer((request, response) => {
  request.resume().on('end', () => response.writeHead(200, { 'content-length': 2 }).end('ok'));
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
  serve(`http://127.0.0.1:${address.port}`, async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
});
