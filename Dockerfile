# The service alone, without the local Stripe (.dockerignore): give it DATABASE_URL, STRIPE_SECRET_KEY and RESEND_API_KEY (server/operator/README.md, "Environment").
FROM node:24-slim
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --no-workspaces --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund
COPY tsconfig.json openapi.json ./
COPY shared shared
COPY migrations migrations
COPY server server
RUN install -d -o node -m 755 node_modules/.cache && install -d -o node -m 700 node_modules/.cache/driftstack-billing
USER node
RUN node server/compile-cache.js
EXPOSE 8080
ENV NODE_ENV=production
CMD ["node", "--max-semi-space-size=4", "--import", "./server/compile-cache.js", "server/main.ts"]
