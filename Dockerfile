# The service alone, without the local Stripe (.dockerignore): give it DATABASE_URL, STRIPE_SECRET_KEY and RESEND_API_KEY (server/operator/README.md, "Environment").
FROM node:24-slim
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --no-workspaces --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund
COPY tsconfig.json openapi.json ./
COPY shared shared
COPY migrations migrations
COPY server server
USER node
EXPOSE 8080
ENV NODE_ENV=production
CMD ["node", "server/main.ts"]
