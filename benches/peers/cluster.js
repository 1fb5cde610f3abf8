// Node's cluster module as its documentation shows it: node cluster.js PORT WORKERS
const cluster = require('node:cluster');
const http = require('node:http');

const [port, workers] = process.argv.slice(2).map(Number);
const big = Buffer.alloc(102400, 'x');

if (cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  const server = http.createServer((request, response) => {
    response.setHeader('Content-Type', 'text/plain');
    if (request.url === '/') response.end('Hello, World!');
    else if (request.url === '/big') response.end(big);
    else if (request.url === '/upload') {
      let count = 0;
      request.on('data', (chunk) => { count += chunk.length; });
      request.on('end', () => response.end(String(count)));
    } else {
      response.statusCode = 404;
      response.end();
    }
  });
  server.keepAliveTimeout = 75000;
  server.listen({ port, host: '127.0.0.1', backlog: 4096 });
}
